//! Where `import` looks: the library in the binary for `std/…`, else below the script's own folder.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rhai::{Engine, EvalAltResult, Module, ModuleResolver, Position, Scope, Shared};

use crate::script::error::Error;
use crate::script::library;

/// The longest module that is read.
const MAX_SOURCE: u64 = 4 << 20;

/// How deep modules import each other: each level is on the native stack.
const MAX_DEPTH: usize = 64;

thread_local! {
    /// The modules that this thread is loading, each imported by the one before it.
    static LOADING: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// A module that is being loaded, until this is dropped.
struct Loading;

impl Loading {
    /// Begins to load a module. Fails with what is wrong when it waits for itself; `name` says what a module is called.
    fn begin(key: &Path, name: impl Fn(&Path) -> String) -> Result<Self, String> {
        LOADING.with_borrow_mut(|loading| {
            if let Some(first) = loading.iter().position(|one| one == key) {
                let others = loading[first..].iter().skip(1).map(PathBuf::as_path).chain([key]);
                let circle = others.map(&name).collect::<Vec<_>>().join(", which imports ");
                return Err(format!("goes in a circle: {} imports {circle}", name(key)));
            }
            if loading.len() == MAX_DEPTH {
                return Err(format!("is more than {MAX_DEPTH} imports deep"));
            }
            loading.push(key.to_owned());
            Ok(Self)
        })
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        LOADING.with_borrow_mut(Vec::pop);
    }
}

/// Resolves modules, and nothing outside of the two places.
pub(crate) struct Resolver {
    root: Option<PathBuf>,
    loaded: Mutex<HashMap<PathBuf, Shared<Module>>>,
}

impl Resolver {
    /// Makes a resolver for scripts in a folder, or for none.
    pub(crate) fn new(root: Option<PathBuf>) -> Self {
        Self { root, loaded: Mutex::default() }
    }

    fn locate(&self, path: &str) -> Option<PathBuf> {
        let relative = Path::new(path);
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return None;
        }
        let root = self.root.as_ref()?.canonicalize().ok()?;
        let mut file = root.join(relative);
        if file.extension().is_none_or(|ext| ext != "rhai") {
            file.as_mut_os_string().push(".rhai");
        }
        // Resolved, so that a link does not lead out.
        let file = file.canonicalize().ok()?;
        let small = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_SOURCE);
        (small && file.starts_with(&root)).then_some(file)
    }

    /// Returns what a module is called: its path below the folder.
    fn name(&self, key: &Path) -> String {
        let root = self.root.as_ref().and_then(|root| root.canonicalize().ok());
        let below = root.and_then(|root| key.strip_prefix(root).ok());
        below.unwrap_or(key).display().to_string()
    }
}

impl ModuleResolver for Resolver {
    fn resolve(
        &self,
        engine: &Engine,
        _source: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let missing = || Box::new(EvalAltResult::ErrorModuleNotFound(path.to_owned(), position));
        let (key, text) = match path.starts_with(library::PREFIX) {
            true => {
                let script = library::find(path).ok_or_else(missing)?;
                (PathBuf::from(script.path()), script.text.to_owned())
            }
            false => {
                let file = self.locate(path).ok_or_else(missing)?;
                let text = std::fs::read_to_string(&file).map_err(|_| missing())?;
                (file, text)
            }
        };
        if let Some(module) = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(module.clone());
        }
        let _loading = Loading::begin(&key, |key| self.name(key)).map_err(|problem| {
            Error::Argument { function: "import", argument: format!("\"{path}\""), problem }.raise(position)
        })?;
        let failed = |error| Box::new(EvalAltResult::ErrorInModule(path.to_owned(), error, position));
        let mut ast = engine.compile(&text).map_err(|error| failed(error.into()))?;
        ast.set_source(key.display().to_string());
        let mut module = Module::eval_ast_as_new(Scope::new(), &ast, engine).map_err(failed)?;
        module.build_index();
        let module: Shared<Module> = module.into();
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(key, module.clone());
        Ok(module)
    }
}

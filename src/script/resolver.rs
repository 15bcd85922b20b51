//! Where `import` looks: the library in the binary for `std/…`, else below the script's own folder.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rhai::{Engine, EvalAltResult, Module, ModuleResolver, Position, Scope, Shared};

use crate::script::library;

/// The longest module that is read.
const MAX_SOURCE: u64 = 4 << 20;

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

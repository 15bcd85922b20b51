//! What editors read: the surface as a Rhai definition file (`.d.rhai`), written from the catalog.
//!
//! The format is that of Rhai's own definition files (Rhai Book, "Generate Definition Files for Language Server"). The
//! functions of the language itself are not in it, as editors know them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::script::catalog::{Catalog, Entry, On};
use crate::script::time;

/// Writes the definitions of all functions and objects.
#[must_use]
pub fn text(catalog: &Catalog) -> String {
    let mut text = String::from("module static;\n");
    let mut modules: BTreeMap<&str, String> = BTreeMap::new();
    for entry in catalog.entries() {
        let to = match entry.spec.on {
            On::Module(name) => modules.entry(name).or_default(),
            On::Node | On::Free | On::Method => &mut text,
        };
        function(to, entry);
    }
    for object in catalog.objects() {
        for field in &object.fields {
            let _ =
                write!(text, "\n/// {}\nfn get {}(this: {}) -> {};\n", field.doc, field.name, object.name, field.ty);
        }
    }
    text.push_str(time::DEFINITIONS);
    for (name, functions) in modules {
        let _ = write!(text, "\nmodule {name} {{{functions}}}\n");
    }
    text
}

/// Writes every form of a function: with each number of arguments that it takes, and also as a method of a node.
fn function(text: &mut String, entry: &Entry) {
    let Entry { spec, signature } = entry;
    let mut names = spec.params.iter().map(|param| param.name);
    let mut params = Vec::new();
    for (index, param) in signature.params.iter().enumerate() {
        let name = match spec.on {
            On::Method if index == 0 => "this",
            _ if param.options => "options",
            _ => names.next().unwrap_or("value"),
        };
        params.push(format!("{name}: {}", param.ty));
    }
    let required = signature.params.iter().filter(|param| !param.optional).count();
    let receivers: &[&[String]] = if spec.on == On::Node { &[&[], &["node: Node".to_owned()]] } else { &[&[]] };
    for count in required..=params.len() {
        for receiver in receivers {
            let all = [receiver, &params[..count]].concat().join(", ");
            text.push('\n');
            for line in spec.doc.lines() {
                let _ = writeln!(text, "{}", format!("/// {line}").trim_end());
            }
            let _ = writeln!(text, "fn {}({all}) -> {};", spec.name, signature.returns);
        }
    }
}

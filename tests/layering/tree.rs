//! The files as a tree of modules, and where a path in one of them leads.

use crate::source::{Mention, Token, code, mentions};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) file: String,
    /// From the root of the crate, or of the program: `["net", "tcp"]`.
    pub(crate) path: Vec<String>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) mentions: Vec<Mention>,
    pub(crate) lines: usize,
    test_modules: Vec<String>,
}

impl Module {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let code = code(text);
        Self {
            file: file.to_owned(),
            path: module_path(file),
            mentions: mentions(&code.tokens),
            tokens: code.tokens,
            lines: text.lines().count() - code.test_lines,
            test_modules: code.test_modules,
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.file == "src/lib.rs"
    }

    /// Programs are crates of their own, above everything: they see the public names only.
    pub(crate) fn is_program(&self) -> bool {
        self.file.starts_with("src/bin/") || self.file == "src/main.rs"
    }

    fn has_mod(&self, name: &str) -> bool {
        self.tokens
            .windows(2)
            .any(|w| w[0].text == "mod" && w[1].text == name)
    }
}

fn module_path(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut path: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if path
        .last()
        .is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main"))
    {
        path.pop();
    }
    path
}

/// Unit tests in files of their own.
fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// Where a path leads.
#[derive(Debug, PartialEq)]
pub(crate) enum Target {
    /// The index of the file that defines it.
    File(usize),
    /// A name at the root of the crate, which is there for users.
    RootName,
    /// Another crate, or a file that does not exist.
    Unknown,
}

pub(crate) struct Tree {
    pub(crate) modules: Vec<Module>,
    by_path: BTreeMap<Vec<String>, usize>,
}

impl Tree {
    pub(crate) fn new(sources: &[(String, String)]) -> Self {
        let mut modules: Vec<_> = sources
            .iter()
            .filter(|(file, _)| !is_test_file(file))
            .map(|(file, text)| Module::new(file, text))
            .collect();
        let for_tests: Vec<_> = modules
            .iter()
            .flat_map(|m| {
                m.test_modules
                    .iter()
                    .map(|name| [&*m.path, std::slice::from_ref(name)].concat())
            })
            .collect();
        modules.retain(|m| !for_tests.iter().any(|path| m.path.starts_with(path)));
        let by_path = modules
            .iter()
            .enumerate()
            .map(|(i, m)| (m.path.clone(), i))
            .collect();
        Self { modules, by_path }
    }

    /// Whether a module has this path; a folder counts before its mod.rs is written.
    fn exists(&self, path: &[String]) -> bool {
        self.by_path
            .range(path.to_vec()..)
            .next()
            .is_some_and(|(p, _)| p.starts_with(path))
    }

    /// The path of a mention from the root of the crate; `None` for other crates.
    pub(crate) fn absolute(&self, from: &Module, mention: &Mention) -> Option<Vec<String>> {
        let here: Vec<String> = from.path.iter().chain(&mention.inside).cloned().collect();
        let first = mention.segments.first()?;
        let mut path = match first.as_str() {
            "crate" if from.is_program() => from.path.iter().take(2).cloned().collect(),
            "crate" => Vec::new(),
            "self" | "super" => here,
            child if from.has_mod(child) => [here, vec![child.to_owned()]].concat(),
            alias if !mention.import => {
                let imported = |m: &&Mention| {
                    m.import
                        && m.name == alias
                        && matches!(m.segments[0].as_str(), "crate" | "super" | "self")
                };
                self.absolute(from, from.mentions.iter().find(imported)?)?
            }
            _ => return None,
        };
        let supers = mention
            .segments
            .iter()
            .take_while(|s| *s == "super" || *s == "self");
        for _ in supers.filter(|s| *s == "super") {
            path.pop();
        }
        let named = mention.segments.iter().enumerate();
        let rest = named.filter(|(i, s)| *i > 0 && *s != "super" && *s != "self");
        path.extend(rest.map(|(_, s)| s.clone()));
        Some(path)
    }

    /// Follows re-exports to the file that defines what `path` names.
    pub(crate) fn resolve(&self, path: &[String], hops: usize) -> Target {
        let mut known = path.len();
        while known > 0 && !self.exists(&path[..known]) {
            known -= 1;
        }
        let Some(&index) = self.by_path.get(&path[..known]) else {
            return Target::Unknown;
        };
        let module = &self.modules[index];
        let Some(name) = path.get(known) else {
            return if module.is_root() {
                Target::RootName
            } else {
                Target::File(index)
            };
        };
        let is_export = |m: &&Mention| m.export && m.inside.is_empty() && m.name == *name;
        let export = module.mentions.iter().find(is_export);
        if module.is_root() {
            let is_name = export.is_some() || name == "*" || name.starts_with(char::is_uppercase);
            return if is_name {
                Target::RootName
            } else {
                Target::Unknown
            };
        }
        match export.and_then(|export| self.absolute(module, export)) {
            Some(next) if hops > 0 && next != path => self.resolve(&next, hops - 1),
            _ => Target::File(index),
        }
    }

    /// Each import between files of the crate: from, to, line.
    pub(crate) fn imports(&self) -> Vec<(usize, usize, usize)> {
        let mut out = Vec::new();
        for (from, module) in self.modules.iter().enumerate() {
            for mention in &module.mentions {
                let Some(path) = self.absolute(module, mention) else {
                    continue;
                };
                // A re-export of a child is how a mod.rs shows it; that is no use of it.
                if mention.export && path.starts_with(&module.path) {
                    continue;
                }
                if let Target::File(to) = self.resolve(&path, 8) {
                    if to != from {
                        out.push((from, to, mention.line));
                    }
                }
            }
        }
        out
    }
}

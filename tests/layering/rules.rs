//! The rules, each a function that adds what it finds.

use crate::tree::{Module, Target, Tree};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Top-level modules and their layer; an import goes to the same layer or a lower one.
const LAYERS: [(&str, u8); 9] = [
    ("wire", 0),
    ("proto", 1),
    ("error", 2),
    ("codec", 2),
    ("metrics", 3),
    ("ext", 4),
    ("net", 5),
    ("serve", 6),
    ("easy", 7),
];
/// The layers below this one compute: no socket, thread, lock, clock or log.
const FIRST_WITH_IO: u8 = 5;
/// Where shared numbers are kept, and atomics allowed.
const FIRST_WITH_ATOMICS: u8 = 3;
pub(crate) const MAX_LINES: usize = 600;

/// Names that mean input or output, or waiting, wherever they stand.
const SOCKETS: [&str; 7] = [
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "socket2",
    "rustix",
];
const LOCKS: [&str; 9] = [
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "Once",
    "OnceLock",
    "LazyLock",
    "mpsc",
    "crossbeam_channel",
];

fn layer(module: &Module) -> Option<u8> {
    let top = module.path.first()?;
    let (_, layer) = LAYERS.iter().find(|(name, _)| name == top)?;
    Some(*layer)
}

/// What is wrong, as `file:line: what; what to do`.
pub(crate) fn findings(sources: &[(String, String)]) -> Vec<String> {
    let tree = Tree::new(sources);
    let mut out = BTreeSet::new();
    for (file, text) in sources {
        if !text.starts_with("//!") {
            out.insert(format!(
                "{file}:1: no `//!` at the top; say what the file is, what it is not, who drives it"
            ));
        }
    }
    for module in &tree.modules {
        shape(module, &mut out);
        words(module, &mut out);
        root_names(&tree, module, &mut out);
    }
    layers(&tree, &mut out);
    cycles(&tree, &mut out);
    pem(&tree, &mut out);
    out.into_iter().collect()
}

fn shape(module: &Module, out: &mut BTreeSet<String>) {
    let file = &module.file;
    if module.lines > MAX_LINES {
        let lines = module.lines;
        out.insert(format!("{file}:{MAX_LINES}: {lines} lines without tests, over {MAX_LINES}; split it by what changes together"));
    }
    if layer(module).is_none() && !module.is_root() && !module.is_program() {
        out.insert(format!(
            "{file}:1: its module has no layer; add it to LAYERS in tests/layering/rules.rs"
        ));
    }
}

fn words(module: &Module, out: &mut BTreeSet<String>) {
    let file = &module.file;
    let below_io = layer(module).is_some_and(|layer| layer < FIRST_WITH_IO);
    let below_atomics = layer(module).is_some_and(|layer| layer < FIRST_WITH_ATOMICS);
    let in_tls = file.starts_with("src/net/tls/") || file == "src/net/tls.rs";
    let mut say = |line: usize, what: &str| out.insert(format!("{file}:{line}: {what}"));
    for (i, token) in module.tokens.iter().enumerate() {
        let (word, line) = (token.text.as_str(), token.line);
        let next = module.tokens.get(i + 1).map_or("", |t| t.text.as_str());
        let is_atomic = word
            .strip_prefix("Atomic")
            .is_some_and(|rest| rest.starts_with(char::is_uppercase));
        if below_io && SOCKETS.contains(&word) {
            say(
                line,
                &format!("`{word}` below net; take bytes as an argument and let net do the I/O"),
            );
        }
        if (below_io && LOCKS.contains(&word)) || (below_atomics && is_atomic) {
            say(
                line,
                &format!("`{word}` below net; take `&mut self` and let net share it"),
            );
        }
        if word == "SystemTime" && !in_tls {
            say(
                line,
                "`SystemTime` outside src/net/tls; only certificates depend on the wall clock",
            );
        }
        if word == "rustls" && !in_tls {
            say(
                line,
                "`rustls` outside src/net/tls; give src/net/tls a function for it",
            );
        }
        if word == "env_logger" && !module.is_program() {
            say(
                line,
                "`env_logger` in the library; the program chooses the logger, log with `log::`",
            );
        }
        if word == "unbounded" && matches!(next, "(" | "::") {
            say(
                line,
                "`unbounded` channel; use `bounded` and say what happens when it is full",
            );
        }
    }
    for mention in &module.mentions {
        let path: Vec<&str> = mention.segments.iter().map(String::as_str).collect();
        if path.ends_with(&["Instant", "now"]) && file != "src/net/clock.rs" {
            let what = if below_io {
                "take `now: Instant` as an argument"
            } else {
                "use `net::clock::now`"
            };
            say(
                mention.line,
                &format!("`Instant::now` outside src/net/clock.rs; {what}"),
            );
        }
        if below_io && (path[0] == "thread" || path.starts_with(&["std", "thread"])) {
            say(
                mention.line,
                "`std::thread` below net; let net or serve own the thread",
            );
        }
        if below_io && path[0] == "log" {
            say(
                mention.line,
                "`log` below net; return the event and let net log it",
            );
        }
    }
}

fn root_names(tree: &Tree, module: &Module, out: &mut BTreeSet<String>) {
    if module.is_root() || module.is_program() {
        return;
    }
    for mention in &module.mentions {
        let path = tree.absolute(module, mention);
        if path.is_some_and(|path| tree.resolve(&path, 8) == Target::RootName) {
            let (file, line, written) = (&module.file, mention.line, mention.segments.join("::"));
            out.insert(format!("{file}:{line}: `{written}` is a name of the root, which is for users; import it from the module that defines it"));
        }
    }
}

fn layers(tree: &Tree, out: &mut BTreeSet<String>) {
    for (from, to, line) in tree.imports() {
        let (from, to) = (&tree.modules[from], &tree.modules[to]);
        if let (Some(low), Some(high)) = (layer(from), layer(to)) {
            if high > low {
                let (a, b, file, target) = (&from.path[0], &to.path[0], &from.file, &to.file);
                out.insert(format!("{file}:{line}: {a} (layer {low}) imports {target} of {b} (layer {high}); move what both need down, or pass it in"));
            }
        }
    }
}

fn cycles(tree: &Tree, out: &mut BTreeSet<String>) {
    let mut edges: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
    for (from, to, line) in tree.imports() {
        edges.entry(from).or_default().entry(to).or_insert(line);
    }
    let mut seen = BTreeSet::new();
    for &start in edges.keys() {
        let Some(cycle) = shortest_cycle(&edges, start) else {
            continue;
        };
        if !seen.insert(cycle.iter().copied().collect::<BTreeSet<_>>()) {
            continue;
        }
        let steps = (0..cycle.len()).map(|i| {
            let (from, to) = (cycle[i], cycle[(i + 1) % cycle.len()]);
            format!(
                "{}:{} -> {}",
                tree.modules[from].file, edges[&from][&to], tree.modules[to].file
            )
        });
        let steps = steps.collect::<Vec<_>>().join(", ");
        out.insert(format!(
            "{steps}: an import cycle; move what both need into a third file"
        ));
    }
}

fn shortest_cycle(
    edges: &BTreeMap<usize, BTreeMap<usize, usize>>,
    start: usize,
) -> Option<Vec<usize>> {
    let mut queue = VecDeque::from([vec![start]]);
    let mut visited = BTreeSet::new();
    while let Some(path) = queue.pop_front() {
        for &next in edges
            .get(&path[path.len() - 1])
            .into_iter()
            .flat_map(BTreeMap::keys)
        {
            if next == start {
                return Some(path);
            }
            if visited.insert(next) {
                queue.push_back([path.clone(), vec![next]].concat());
            }
        }
    }
    None
}

/// The archived crate stays replaceable with one edit.
fn pem(tree: &Tree, out: &mut BTreeSet<String>) {
    let mut places = BTreeMap::new();
    for module in &tree.modules {
        for mention in module
            .mentions
            .iter()
            .filter(|m| m.segments[0] == "rustls_pemfile")
        {
            let place = (module.file.clone(), mention.function.clone());
            places.entry(place).or_insert(mention.line);
        }
    }
    let one_function = places.len() == 1 && places.keys().all(|(_, function)| function.is_some());
    if !one_function {
        for ((file, _), line) in places {
            out.insert(format!("{file}:{line}: `rustls_pemfile` is named in one function only, inside its body; call that function"));
        }
    }
}

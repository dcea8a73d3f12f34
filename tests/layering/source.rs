//! From the text of a file to the paths that it mentions.

use std::collections::BTreeSet;

/// A word, `::`, or one character; with its line, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments and literals blanked; lines stay where they are.
fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = match (at(i), at(i + 1)) {
            ('/', '/') => (i..chars.len())
                .find(|&j| at(j) == '\n')
                .unwrap_or(chars.len()),
            ('/', '*') => end_of_block_comment(&chars, i),
            ('"', _) => end_of_string(&chars, i),
            ('\'', '\\') => (i + 3..chars.len())
                .find(|&j| at(j) == '\'')
                .map_or(chars.len(), |j| j + 1),
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            ('r', '"' | '#') if i == 0 || !is_word(at(i - 1)) || prefixed_raw(&chars, i) => {
                end_of_raw_string(&chars, i).unwrap_or(i)
            }
            _ => i,
        };
        if end == i {
            out.push(at(i));
            i += 1;
        } else {
            let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
            out.extend(chars[i..end].iter().map(blank));
            i = end;
        }
    }
    out
}

/// `br"…"` and `cr"…"`: the word before the `r` is one letter.
fn prefixed_raw(chars: &[char], i: usize) -> bool {
    matches!(chars[i - 1], 'b' | 'c') && (i < 2 || !is_word(chars[i - 2]))
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut i, mut depth) = (start, 0);
    while i < chars.len() {
        match chars[i..] {
            ['/', '*', ..] => (i, depth) = (i + 2, depth + 1),
            ['*', '/', ..] if depth == 1 => return i + 2,
            ['*', '/', ..] => (i, depth) = (i + 2, depth - 1),
            _ => i += 1,
        }
    }
    i
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// `None` for a raw identifier, `r#type`.
fn end_of_raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |i: &usize| {
        chars[*i] == '"'
            && chars[i + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
    };
    Some(
        (open + 1..chars.len())
            .find(closes)
            .map_or(chars.len(), |i| i + 1 + hashes),
    )
}

fn tokens(stripped: &str) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::new();
    for (line, text) in stripped.lines().enumerate() {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let len = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                out.push(Token {
                    text: rest[..len].to_owned(),
                    line: line + 1,
                });
            }
            rest = &rest[len..];
        }
    }
    out
}

/// The tokens of a file, apart from its tests.
pub(crate) struct Code {
    pub(crate) tokens: Vec<Token>,
    /// Lines that belong to tests.
    pub(crate) test_lines: usize,
    /// Child modules that exist for tests only.
    pub(crate) test_modules: Vec<String>,
}

/// Takes out what is marked `#[cfg(test)]` or `#[cfg(all(test, ...))]`.
pub(crate) fn code(text: &str) -> Code {
    let all = tokens(&strip(text));
    let word = |i: usize| all.get(i).map_or("", |t| t.text.as_str());
    let mut kept = Vec::new();
    let mut lines = BTreeSet::new();
    let mut test_modules = Vec::new();
    let mut i = 0;
    while i < all.len() {
        let begins = |words: &[&str]| words.iter().enumerate().all(|(k, w)| word(i + k) == *w);
        if begins(&["#", "[", "cfg", "(", "test", ")"])
            || begins(&["#", "[", "cfg", "(", "all", "(", "test"])
        {
            let end = end_of_item(&all, i);
            lines.extend(all[i].line..=all[end - 1].line);
            if word(end - 3) == "mod" {
                test_modules.push(word(end - 2).to_owned());
            }
            i = end;
        } else {
            kept.push(all[i].clone());
            i += 1;
        }
    }
    Code {
        tokens: kept,
        test_lines: lines.len(),
        test_modules,
    }
}

/// The index after the item, field or statement that begins, with its attributes, at `start`.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut i = start;
    while text(i) == "#" {
        i = closing(tokens, i + 1) + 1;
    }
    while matches!(text(i), "pub" | "async" | "extern") {
        i = if text(i + 1) == "(" {
            closing(tokens, i + 1) + 1
        } else {
            i + 1
        };
    }
    let to_semicolon = matches!(text(i), "use" | "static" | "let" | "type")
        || text(i) == "const" && text(i + 1) != "fn";
    let has_body = matches!(
        text(i),
        "fn" | "mod" | "impl" | "trait" | "struct" | "enum" | "const" | "macro_rules" | "unsafe"
    );
    while i < tokens.len() {
        match text(i) {
            ";" => return i + 1,
            "," if !to_semicolon && !has_body => return i + 1,
            ")" | "]" | "}" => return i,
            "{" if !to_semicolon => return closing(tokens, i) + 1,
            "(" | "[" | "{" => i = closing(tokens, i) + 1,
            _ => i += 1,
        }
    }
    tokens.len()
}

/// The index of the bracket that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len() - 1
}

/// A path as written, one for each leaf of a `use` group, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Mention {
    pub(crate) segments: Vec<String>,
    /// The name that it gets here: the last segment, or what follows `as`.
    pub(crate) name: String,
    pub(crate) line: usize,
    /// In a `use`.
    pub(crate) import: bool,
    /// In a `use` that others can see.
    pub(crate) export: bool,
    /// The inline modules around it.
    pub(crate) inside: Vec<String>,
    /// The function around it.
    pub(crate) function: Option<String>,
}

/// Every path of two or more segments, and every leaf of a `use`.
pub(crate) fn mentions(tokens: &[Token]) -> Vec<Mention> {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut out = Vec::new();
    let (mut depth, mut brackets) = (0, 0);
    let mut modules: Vec<(String, usize)> = Vec::new();
    let mut functions: Vec<(String, usize)> = Vec::new();
    let mut signature: Option<String> = None;
    let mut i = 0;
    while i < tokens.len() {
        let mut leaves = Vec::new();
        let (mut import, mut export) = (false, false);
        match text(i) {
            "{" => {
                depth += 1;
                functions.extend(signature.take().map(|name| (name, depth)));
            }
            "}" => {
                modules.retain(|m| m.1 < depth);
                functions.retain(|f| f.1 < depth);
                depth -= 1;
            }
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets -= 1,
            ";" if brackets == 0 => signature = None,
            "fn" if text(i + 1) != "(" => signature = Some(text(i + 1).to_owned()),
            "mod" if text(i + 2) == "{" => modules.push((text(i + 1).to_owned(), depth + 1)),
            // `pub(in crate::a)` imports nothing.
            "in" if i > 1 && text(i - 1) == "(" && text(i - 2) == "pub" => {
                i = closing(tokens, i - 1);
                continue;
            }
            "use" => {
                import = true;
                export = i > 0 && (text(i - 1) == "pub" || text(i - 1) == ")");
                i = leaves_of(tokens, i + 1, &[], &mut leaves);
            }
            word if word.starts_with(is_word) && text(i + 1) == "::" => {
                i = leaves_of(tokens, i, &[], &mut leaves);
            }
            _ => {}
        }
        if leaves.is_empty() {
            i += 1;
        }
        out.extend(leaves.into_iter().map(|(segments, name, line)| {
            Mention {
                segments,
                name,
                line,
                import,
                export,
                inside: modules.iter().map(|m| m.0.clone()).collect(),
                function: signature
                    .clone()
                    .or_else(|| functions.last().map(|f| f.0.clone())),
            }
        }));
    }
    out
}

type Leaf = (Vec<String>, String, usize);

/// Follows one tree of a `use`, or one path; returns the index after it.
fn leaves_of(tokens: &[Token], start: usize, prefix: &[String], out: &mut Vec<Leaf>) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut path = prefix.to_vec();
    let mut i = start;
    loop {
        match text(i) {
            "::" => i += 1,
            "{" => {
                let end = closing(tokens, i);
                i += 1;
                while i < end {
                    i = if text(i) == "," {
                        i + 1
                    } else {
                        leaves_of(tokens, i, &path, out)
                    };
                }
                return end + 1;
            }
            word if word == "*" || word.starts_with(is_word) => {
                let line = tokens[i].line;
                // `a::{self}` is `a`.
                if word != "self" || path.is_empty() {
                    path.push(word.to_owned());
                }
                i += 1;
                if text(i) == "::"
                    && (text(i + 1) == "{"
                        || text(i + 1).starts_with(is_word)
                        || text(i + 1) == "*")
                {
                    continue;
                }
                let mut name = path.last().cloned().unwrap_or_default();
                if text(i) == "as" {
                    name = text(i + 1).to_owned();
                    i += 2;
                }
                out.push((path, name, line));
                return i;
            }
            _ => return i.max(start + 1),
        }
    }
}

//! Tokens: secrets from files or from the environment, never from arguments, which everybody on the machine can
//! read.
//!
//! A file has a token in each line, with a name before it where a server is to tell clients apart; empty lines and
//! lines that begin with `#` are skipped. A client sends the first.

use crate::exit::{self, Failure};
use std::fs;
use std::path::Path;
use vstp::net::identity::{Authenticator, Credentials, Refusal, SharedToken};

/// The client's token itself, for those who have no file.
const VARIABLE: &str = "VSTP_TOKEN";

/// A token and whose it is.
struct Entry {
    name: String,
    token: String,
}

fn read(path: &Path) -> Result<Vec<Entry>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| match line.split_once(char::is_whitespace) {
        Some((name, token)) => Entry {
            name: name.to_owned(),
            token: token.trim_start().to_owned(),
        },
        None => Entry {
            name: "client".to_owned(),
            token: line.to_owned(),
        },
    };
    let entries: Vec<_> = lines.map(entry).collect();
    if entries.is_empty() {
        let text = format!(
            "{}: no token in it; expected lines of TOKEN or NAME TOKEN",
            path.display()
        );
        return Err(Failure::new(exit::LOCAL, text));
    }
    Ok(entries)
}

/// What a client sends.
pub(crate) fn of_client(file: Option<&Path>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = file else {
        let token = std::env::var(VARIABLE)
            .ok()
            .filter(|token| !token.is_empty());
        return Ok(token.map(String::into_bytes));
    };
    Ok(read(path)?
        .into_iter()
        .next()
        .map(|entry| entry.token.into_bytes()))
}

/// What a server accepts: any of the tokens in the file.
pub(crate) fn accepted(path: &Path, bound: bool) -> Result<impl Authenticator + use<>, Failure> {
    let known = |entry: Entry| match bound {
        true => SharedToken::bound(entry.name, entry.token),
        false => SharedToken::new(entry.name, entry.token),
    };
    let all: Vec<SharedToken> = read(path)?
        .into_iter()
        .map(known)
        .collect::<Result<_, _>>()?;
    Ok(move |client: &Credentials| {
        let mut results = all.iter().map(|token| token.authenticate(client));
        let recognised = results.find_map(Result::ok);
        recognised.ok_or_else(|| Refusal::new("no token of the file"))
    })
}

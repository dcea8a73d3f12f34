//! The folder with the certificates for development.

use super::{Pair, complaint};
use crate::net::random;
use crate::net::tls::{TlsSession, dev};
use std::ops::Deref;
use std::path::PathBuf;
use std::{env, fs};

/// A path for a folder that does not exist yet; removed in the end, with what is left beside it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let name = format!("vstp-test-{:016x}", random::u64());
        let parent = env::temp_dir().join(name);
        fs::create_dir(&parent).unwrap();
        Self(parent.join("dev"))
    }

    /// What lies beside it.
    fn siblings(&self) -> Vec<PathBuf> {
        fs::read_dir(self.0.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| *path != self.0)
            .collect()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.join(name)).unwrap()
    }
}

impl Deref for Folder {
    type Target = PathBuf;

    fn deref(&self) -> &PathBuf {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// Whether a client and a server that use the folder understand each other.
fn work(folder: &Folder) {
    let server = dev::server_in(folder).unwrap();
    let client = dev::client_in(folder).unwrap();
    for host in ["localhost", "127.0.0.1", "::1"] {
        let client = TlsSession::client(&client, host).unwrap();
        let server = TlsSession::server(&server).unwrap();
        Pair::of(client, server).shake_hands().unwrap();
    }
    let client = TlsSession::client(&client, "example.test").unwrap();
    let server = TlsSession::server(&server).unwrap();
    assert!(Pair::of(client, server).shake_hands().is_err());
}

#[test]
fn the_second_server_uses_what_the_first_one_made() {
    let folder = Folder::new();
    assert!(complaint(dev::client_in(&folder)).contains("start a server"));
    assert!(!folder.exists(), "a client makes nothing");
    work(&folder);
    let (ca, key) = (folder.read("ca.pem"), folder.read("key.pem"));
    work(&folder);
    assert_eq!((ca, key), (folder.read("ca.pem"), folder.read("key.pem")));
    assert_eq!(folder.siblings(), Vec::<PathBuf>::new());
}

#[test]
fn the_authority_s_key_is_not_kept() {
    let folder = Folder::new();
    dev::server_in(&folder).unwrap();
    let count = |needle: &str| -> usize {
        fs::read_dir(&*folder)
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .map(|text| text.matches(needle).count())
            .sum()
    };
    assert_eq!(count("BEGIN PRIVATE KEY"), 1);
    assert_eq!(count("BEGIN CERTIFICATE"), 2);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    dev::server_in(&folder).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for name in ["ca.pem", "cert.pem", "key.pem", "expires"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    dev::server_in(&folder).unwrap();
    for mode in [0o720, 0o702, 0o777] {
        fs::set_permissions(&*folder, fs::Permissions::from_mode(mode)).unwrap();
        assert!(complaint(dev::server_in(&folder)).contains("VSTP_DEV_CERTS"));
        // Whoever put an authority there could be anybody's server.
        assert!(complaint(dev::client_in(&folder)).contains("VSTP_DEV_CERTS"));
    }
    fs::set_permissions(&*folder, fs::Permissions::from_mode(0o755)).unwrap();
    work(&folder);
}

#[cfg(unix)]
#[test]
fn a_folder_of_another_user_is_refused() {
    use std::os::unix::fs::{MetadataExt, chown};
    let folder = Folder::new();
    dev::server_in(&folder).unwrap();
    let me = fs::metadata(&*folder).unwrap().uid();
    let check = |mode, owner| dev::is_private(mode, owner, me);
    // The administrator can do everything anyway.
    assert!(check(0o700, me) && check(0o755, me) && check(0o755, 0));
    assert!(!check(0o700, me + 1) && !check(0o755, me + 2));
    assert!(!check(0o775, me) && !check(0o707, me) && !check(0o1777, 0));
    // Only the administrator can give a folder away.
    if chown(&*folder, Some(65_534), None).is_ok() {
        assert!(complaint(dev::server_in(&folder)).contains("VSTP_DEV_CERTS"));
        assert!(complaint(dev::client_in(&folder)).contains("VSTP_DEV_CERTS"));
    } else {
        assert_ne!(me, 0);
    }
}

#[test]
fn it_is_made_anew_before_it_expires() {
    let folder = Folder::new();
    work(&folder);
    let day = 24 * 3600;
    let made = fs::read_to_string(folder.join("expires")).unwrap();
    let now = made.parse::<u64>().unwrap() - 365 * day;
    for (expires, anew) in [
        ((now + 8 * day).to_string(), false),
        ((now + 6 * day).to_string(), true),
        ("0".to_owned(), true),
        ("no number".to_owned(), true),
    ] {
        let old = folder.read("ca.pem");
        fs::write(folder.join("expires"), expires).unwrap();
        work(&folder);
        assert_eq!(folder.read("ca.pem") != old, anew);
    }
    let left: u64 = fs::read_to_string(folder.join("expires"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(left >= now + 365 * day);
    assert_eq!(folder.siblings(), Vec::<PathBuf>::new());
}

#[test]
fn it_is_made_anew_when_a_file_is_missing() {
    let folder = Folder::new();
    for name in ["ca.pem", "cert.pem", "key.pem", "expires"] {
        work(&folder);
        fs::remove_file(folder.join(name)).unwrap();
        work(&folder);
    }
}

#[test]
fn servers_that_start_at_once_end_with_one_set() {
    // From nothing, and (where a folder can be locked) from a set that expires.
    for expired in [false, true].into_iter().take(1 + usize::from(cfg!(unix))) {
        for _ in 0..25 {
            let folder = Folder::new();
            if expired {
                dev::server_in(&folder).unwrap();
                fs::write(folder.join("expires"), "0").unwrap();
            }
            let (folder, start) = (&folder, &std::sync::Barrier::new(8));
            let servers: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(move || {
                            start.wait();
                            dev::server_in(folder).unwrap()
                        })
                    })
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            let client = dev::client_in(folder).unwrap();
            for server in servers {
                Pair::new(&client, &server).shake_hands().unwrap();
            }
            assert_eq!(folder.siblings(), Vec::<PathBuf>::new());
        }
    }
}

#[test]
fn a_client_trusts_it_on_loopback_addresses_only() {
    let certs = dev::generate().unwrap();
    let client = certs.client().unwrap();
    for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        client.check_peer(ip.parse().unwrap()).unwrap();
    }
    for ip in [
        "10.0.0.1",
        "0.0.0.0",
        "192.0.2.1",
        "fe80::1",
        "::",
        "::ffff:10.0.0.1",
    ] {
        let text = complaint(client.check_peer(ip.parse().unwrap()));
        assert!(text.contains(ip.trim_start_matches("::ffff:")), "{text}");
    }
    // A client with an authority of its own goes anywhere.
    let own = super::trusting().build().unwrap();
    own.check_peer("10.0.0.1".parse().unwrap()).unwrap();
}

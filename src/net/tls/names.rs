//! The names in a certificate that TLS has verified.
//!
//! The certificate is parsed by webpki, as in the handshake. Of the subject, which webpki hands out as bytes,
//! only the common name is looked for here.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Tags of DER (X.690 8.1.2).
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
/// `id-at-commonName`, 2.5.4.3 (RFC 5280 A.1).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The DNS names among the subject alternative names.
pub(super) fn dns(certificate: &[u8]) -> Vec<String> {
    let certificate = CertificateDer::from(certificate);
    let Ok(certificate) = EndEntityCert::try_from(&certificate) else {
        return Vec::new();
    };
    certificate.valid_dns_names().map(str::to_owned).collect()
}

/// The common name, if the subject has exactly one.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&certificate).ok()?;
    common_name_of(certificate.subject())
}

/// Looks through a Name (RFC 5280 4.1.2.4), whose outer tag and length webpki has taken off.
fn common_name_of(mut names: &[u8]) -> Option<String> {
    let mut found = None;
    while !names.is_empty() {
        let mut set = element(&mut names, SET)?;
        while !set.is_empty() {
            let mut pair = element(&mut set, SEQUENCE)?;
            if element(&mut pair, OBJECT_IDENTIFIER)? != COMMON_NAME {
                continue;
            }
            let tag = *pair.first()?;
            if !matches!(tag, UTF8_STRING | PRINTABLE_STRING) {
                return None;
            }
            let name = std::str::from_utf8(element(&mut pair, tag)?).ok()?;
            // Of two names nobody can say which was meant.
            if found.replace(name).is_some() {
                return None;
            }
        }
    }
    found.filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Takes the element with this tag from the front: its content.
fn element<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&first, rest) = from.split_first()?;
    let (&len, rest) = rest.split_first()?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        // The long form with one or two bytes: no name is longer.
        0x81 => rest
            .split_first()
            .map(|(len, rest)| (usize::from(*len), rest))?,
        0x82 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    *from = rest;
    (first == tag).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(names: &[&str], subject: &[(DnType, &str)]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (typ, value) in subject {
            params.distinguished_name.push(typ.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_names_of_a_certificate() {
        let subject = [
            (DnType::CountryName, "NL"),
            (DnType::OrganizationName, "ann"),
            (DnType::CommonName, "bob \u{e9}"),
        ];
        let der = certificate(&["a.example", "b.example"], &subject);
        assert_eq!(common_name(&der).as_deref(), Some("bob \u{e9}"));
        assert_eq!(dns(&der), ["a.example", "b.example"]);
        let long = "x".repeat(300);
        let der = certificate(&[], &[(DnType::CommonName, &long)]);
        assert_eq!(common_name(&der), Some(long));
        let der = certificate(&["a.example"], &subject[..2]);
        assert_eq!(common_name(&der), None, "an organization is no common name");
        assert_eq!(common_name(b"no certificate"), None);
        assert_eq!(dns(b"no certificate"), [""; 0]);
    }

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u8::try_from(content.len()).unwrap();
        [&[tag, len][..], content].concat()
    }

    fn name(value: &[u8]) -> Vec<u8> {
        let pair = [der(OBJECT_IDENTIFIER, COMMON_NAME), value.to_vec()].concat();
        der(SET, &der(SEQUENCE, &pair))
    }

    #[test]
    fn two_common_names_are_none_and_other_strings_are_refused() {
        let ann = name(&der(PRINTABLE_STRING, b"ann"));
        assert_eq!(common_name_of(&ann).as_deref(), Some("ann"));
        assert_eq!(common_name_of(&[&ann[..], &ann].concat()), None);
        assert_eq!(common_name_of(&name(&der(UTF8_STRING, b""))), None);
        assert_eq!(common_name_of(&name(&der(UTF8_STRING, b"\xff"))), None);
        let bmp = name(&der(0x1e, b"\0a"));
        assert_eq!(common_name_of(&bmp), None);
    }

    #[test]
    fn every_prefix_and_every_changed_length_is_refused_or_read_without_a_panic() {
        let ann = name(&der(PRINTABLE_STRING, b"ann"));
        for len in 0..ann.len() {
            assert_eq!(common_name_of(&ann[..len]), None, "{len}");
        }
        for at in 0..ann.len() {
            for byte in 0..=255 {
                let mut changed = ann.clone();
                changed[at] = byte;
                let _ = common_name_of(&changed);
            }
        }
    }
}

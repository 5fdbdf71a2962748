//! The subject alternative names of a certificate, for `client_allowed_sans`, and its subject, for
//! tenants.
//!
//! Only as much DER (X.690) and X.509 (RFC 5280, 4.1 and 4.2.1.6) as that needs:
//!
//! ```text
//! Certificate ::= SEQUENCE { TBSCertificate, ... }
//! TBSCertificate ::= SEQUENCE { [0] version optional, serial, signature, issuer, validity, subject, ...,
//!     [3] { SEQUENCE OF Extension } }
//! subject ::= SEQUENCE OF SET OF SEQUENCE { OBJECT IDENTIFIER, string }
//! Extension ::= SEQUENCE { OBJECT IDENTIFIER, BOOLEAN optional, OCTET STRING }
//! the string of 2.5.29.17 holds: SEQUENCE OF [1] e-mail | [2] DNS | [6] URI | [7] IP address
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const EXTENSIONS: u8 = 0xa3;
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// DNS names, e-mail addresses, IP addresses and URIs of a DER certificate, as text. Empty if it
/// has none or cannot be read.
pub(super) fn names(certificate: &[u8]) -> Vec<String> {
    alt_names(certificate)
        .map(|list| items(list).filter_map(name).collect())
        .unwrap_or_default()
}

fn name((tag, value): (u8, &[u8])) -> Option<String> {
    match tag {
        0x81 | 0x82 | 0x86 => Some(std::str::from_utf8(value).ok()?.to_owned()),
        0x87 => {
            if let Ok(v4) = <[u8; 4]>::try_from(value) {
                return Some(Ipv4Addr::from(v4).to_string());
            }
            let v6 = <[u8; 16]>::try_from(value).ok()?;
            Some(Ipv6Addr::from(v6).to_string())
        }
        _ => None,
    }
}

/// A part of a certificate's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectField {
    /// `O`
    Organization,
    /// `OU`
    OrganizationalUnit,
    /// `CN`
    CommonName,
}

/// The certificate that a client showed, DER; requests have it among their extensions.
#[derive(Clone, Debug)]
pub struct ClientCertificate(pub(super) Arc<[u8]>);

impl ClientCertificate {
    /// The first value of a part of the subject.
    pub fn subject(&self, field: SubjectField) -> Option<String> {
        subject(&self.0, field)
    }
}

fn subject(certificate: &[u8], field: SubjectField) -> Option<String> {
    const VERSION: u8 = 0xa0;
    const SET: u8 = 0x31;
    let wanted = match field {
        SubjectField::Organization => [0x55, 0x04, 0x0a],
        SubjectField::OrganizationalUnit => [0x55, 0x04, 0x0b],
        SubjectField::CommonName => [0x55, 0x04, 0x03],
    };
    let signed = expect(expect(certificate, SEQUENCE)?, SEQUENCE)?;
    let mut parts = items(signed).filter(|(tag, _)| *tag != VERSION);
    // After serial, signature, issuer and validity.
    let (_, subject) = parts.nth(4)?;
    let sets = items(subject).filter(|(tag, _)| *tag == SET);
    sets.flat_map(|(_, set)| items(set)).find_map(|(_, pair)| {
        let mut pair = items(pair);
        let (_, name) = pair.next()?;
        let (_, value) = pair.next()?;
        (name == wanted).then(|| String::from_utf8_lossy(value).into_owned())
    })
}

/// The content of the list of alternative names.
fn alt_names(certificate: &[u8]) -> Option<&[u8]> {
    let whole = expect(certificate, SEQUENCE)?;
    let signed = expect(whole, SEQUENCE)?;
    let (_, extensions) = items(signed).find(|(tag, _)| *tag == EXTENSIONS)?;
    for (tag, extension) in items(expect(extensions, SEQUENCE)?) {
        let mut parts = items(extension);
        if tag != SEQUENCE || parts.next()?.1 != SUBJECT_ALT_NAME {
            continue;
        }
        let (_, value) = parts.find(|(tag, _)| *tag == OCTET_STRING)?;
        return expect(value, SEQUENCE);
    }
    None
}

fn expect(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (found, value, _) = item(bytes)?;
    (found == tag).then_some(value)
}

/// The items of a constructed value; ends early where the bytes are no DER.
fn items(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, value, rest) = item(bytes)?;
        bytes = rest;
        Some((tag, value))
    })
}

/// Tag, content and what follows. Tags above 30 and lengths above 4 bytes do not occur here.
fn item(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = bytes.split_first_chunk::<2>()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, tail) = rest.split_at_checked(count)?;
        len = digits.iter().fold(0, |n, &d| n << 8 | usize::from(d));
        rest = tail;
    }
    let (value, rest) = rest.split_at_checked(len)?;
    Some((tag, value, rest))
}

#[cfg(test)]
mod tests {
    #[test]
    fn parts_of_a_subject() {
        use rcgen::{CertificateParams, DnType, KeyPair};
        let mut params = CertificateParams::new(vec![]).unwrap();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, "team-a");
        name.push(DnType::OrganizationalUnitName, "müller");
        name.push(DnType::CommonName, "client");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let shown = super::ClientCertificate(certificate.der().to_vec().into());
        use super::SubjectField::*;
        assert_eq!(shown.subject(Organization).as_deref(), Some("team-a"));
        assert_eq!(shown.subject(OrganizationalUnit).as_deref(), Some("müller"));
        assert_eq!(shown.subject(CommonName).as_deref(), Some("client"));
        let der = certificate.der();
        for end in 0..der.len() {
            super::subject(&der[..end], CommonName); // no panic
        }
    }

    #[test]
    fn all_kinds_of_names() {
        use rcgen::{CertificateParams, KeyPair, SanType};
        let mut params = CertificateParams::new(vec!["a.b".to_owned(), "::1".to_owned()]).unwrap();
        params.subject_alt_names.extend([
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::Rfc822Name("x@y.z".try_into().unwrap()),
            SanType::URI("spiffe://a/b".try_into().unwrap()),
        ]);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found = super::names(certificate.der());
        assert_eq!(found, ["a.b", "::1", "10.0.0.1", "x@y.z", "spiffe://a/b"]);
        let der = certificate.der();
        for end in 0..der.len() {
            super::names(&der[..end]); // no panic
        }
    }
}

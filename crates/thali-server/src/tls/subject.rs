//! The common name in a certificate: `tls-auth-clients-user CN`.
//!
//! rustls has checked the certificate by then; what is left is to find one text in its subject, a sequence of sets of
//! pairs of a type and a value. SOURCE: RFC 5280, 4.1.2.4; ITU-T X.690 for the lengths.

use rustls::pki_types::CertificateDer;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// UTF8String, PrintableString, T61String, IA5String.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];
/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The first common name of the subject.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    find_common_name(certificate.subject()).map(<[u8]>::to_vec)
}

fn find_common_name(mut subject: &[u8]) -> Option<&[u8]> {
    while let Some((SET, mut pairs)) = next(&mut subject) {
        while let Some((SEQUENCE, mut pair)) = next(&mut pairs) {
            let Some((OBJECT_IDENTIFIER, COMMON_NAME)) = next(&mut pair) else { continue };
            return next(&mut pair).filter(|(tag, _)| TEXTS.contains(tag)).map(|(_, text)| text);
        }
    }
    None
}

/// The next element: its tag and content.
fn next<'d>(der: &mut &'d [u8]) -> Option<(u8, &'d [u8])> {
    let [tag, len, rest @ ..] = *der else { return None };
    let (len, rest) = match len & 0x7f {
        short if len & 0x80 == 0 => (usize::from(short), rest),
        // A name is no longer than two bytes of length can say.
        1 => (usize::from(*rest.first()?), &rest[1..]),
        2 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), &rest[2..]),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    *der = rest;
    Some((*tag, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = match content.len() {
            len @ 0..0x80 => vec![len as u8],
            len => vec![0x82, (len >> 8) as u8, len as u8],
        };
        [&[tag], &len[..], content].concat()
    }

    fn name(attribute: u8, tag: u8, text: &[u8]) -> Vec<u8> {
        let kind = element(OBJECT_IDENTIFIER, &[0x55, 0x04, attribute]);
        element(SET, &element(SEQUENCE, &[kind, element(tag, text)].concat()))
    }

    #[test]
    fn the_first_common_name_is_found_behind_others() {
        let subject = [name(10, 0x0c, b"Thali"), name(3, 0x13, b"alice"), name(3, 0x0c, b"bob")].concat();
        assert_eq!(find_common_name(&subject), Some(&b"alice"[..]));
        let long = [b'x'; 300];
        assert_eq!(find_common_name(&name(3, 0x0c, &long)), Some(&long[..]));
    }

    #[test]
    fn what_is_none_or_is_cut_gives_none() {
        assert_eq!(find_common_name(&name(10, 0x0c, b"Thali")), None);
        assert_eq!(find_common_name(&name(3, 0x1e, b"\0a")), None);
        let whole = name(3, 0x0c, b"alice");
        assert!((0..whole.len()).all(|len| find_common_name(&whole[..len]).is_none()));
    }
}

//! DEBUG PROTOCOL: one reply of each type, for the tests of clients.
//!
//! SOURCE for the values: Valkey 8.0 `debug.c`.

use thali_commands::ErrorReply;
use thali_resp::Reply;

pub(super) fn write(name: &[u8], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let integers = |reply: &mut Reply<'_>| (0..3).for_each(|n| reply.integer(n));
    match name.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double_text(b"3.141"),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            integers(reply);
        }
        b"set" => {
            reply.set(3);
            integers(reply);
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.integer(n);
                reply.boolean(n == 1);
            }
        }
        b"attrib" => {
            if reply.is_resp3() {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if !reply.is_resp3() => {
            return Err(ErrorReply::new("ERR RESP2 is not supported by this command"));
        }
        b"push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        _ => {
            return Err(ErrorReply::new(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use thali_resp::Protocol;

    use super::*;

    #[test]
    fn each_type_is_written_in_the_form_of_its_protocol() {
        for (name, resp2, resp3) in [
            ("bignum", "$37\r\n12345679", "(12345679"),
            ("attrib", "$39\r\nSome real", "|1\r\n$14\r\nkey-popularity"),
            ("map", "*6\r\n:0\r\n:0\r\n", "%3\r\n:0\r\n#f\r\n"),
            ("set", "*3\r\n", "~3\r\n"),
            ("true", ":1\r\n", "#t\r\n"),
        ] {
            for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
                let mut out = Vec::new();
                write(name.as_bytes(), &mut Reply::new(&mut out, protocol)).unwrap();
                let text = String::from_utf8(out).unwrap();
                assert!(text.starts_with(expected), "{name}: {text}");
            }
        }
        assert!(write(b"push", &mut Reply::new(&mut Vec::new(), Protocol::Resp2)).is_err());
        assert!(write(b"what", &mut Reply::new(&mut Vec::new(), Protocol::Resp3)).is_err());
    }
}

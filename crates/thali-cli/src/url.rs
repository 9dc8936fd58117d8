//! `redis://[[user:]password@][host][:port][/db]`, and `rediss://` for TLS.
//!
//! SOURCE: the provisional registration of the `redis` URI scheme at IANA; redis-cli takes the same and no query.

/// What a URL names; what it leaves out stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Url {
    pub tls: bool,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub database: Option<i64>,
}

/// Reads a URL; the error is a sentence.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let mut url = Url::default();
    let scheme = |name: &str| {
        text.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name)).map(|_| &text[name.len()..])
    };
    let rest = if let Some(rest) = scheme("rediss://") {
        url.tls = true;
        rest
    } else {
        scheme("redis://").ok_or("Invalid URI scheme")?
    };
    // Passwords that nobody encoded may hold an @; a host never does.
    let rest = match rest.rsplit_once('@') {
        None => rest,
        Some((login, rest)) => {
            let password = match login.split_once(':') {
                None => login,
                Some((user, password)) => {
                    url.user = Some(decode(user)?).filter(|user| !user.is_empty());
                    password
                }
            };
            url.password = Some(decode(password)?);
            rest
        }
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']').ok_or("Invalid URI: no ] behind the address")?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    url.host = Some(host.to_owned()).filter(|host| !host.is_empty());
    if let Some(port) = port {
        url.port = Some(port.parse().map_err(|_| "Invalid server port.")?);
    }
    if !path.is_empty() {
        url.database =
            Some(path.parse().map_err(|_| format!("Invalid URI: {path:?} is no database number"))?);
    }
    Ok(url)
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).ok_or("Incomplete URI encoding")?;
        let digits =
            std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|text| u8::from_str_radix(text, 16).ok());
        bytes.push(byte.ok_or("Illegal character in URI encoding")?);
        rest = &tail[2..];
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_and_what_is_not_there_stays_open() {
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        let host = |text: &str| Some(text.to_owned());
        for (text, expected) in [
            ("redis://", Url::default()),
            ("REDIS://h", Url { host: host("h"), ..Url::default() }),
            (
                "rediss://h:7/3",
                Url { tls: true, host: host("h"), port: Some(7), database: Some(3), ..Url::default() },
            ),
            ("redis://pw@h", Url { password: bytes("pw"), host: host("h"), ..Url::default() }),
            ("redis://:pw@h/", Url { password: bytes("pw"), host: host("h"), ..Url::default() }),
            (
                "redis://u%40x:p%3a%2F@h:1",
                Url {
                    user: bytes("u@x"),
                    password: bytes("p:/"),
                    host: host("h"),
                    port: Some(1),
                    ..Url::default()
                },
            ),
            (
                "redis://u:p@w@h",
                Url { user: bytes("u"), password: bytes("p@w"), host: host("h"), ..Url::default() },
            ),
            (
                "redis://[::1]:9/2",
                Url { host: host("::1"), port: Some(9), database: Some(2), ..Url::default() },
            ),
            ("redis:///4", Url { database: Some(4), ..Url::default() }),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("http://h", "Invalid URI scheme"),
            ("h:1", "Invalid URI scheme"),
            ("redis://a%4@h", "Incomplete URI encoding"),
            ("redis://a%zz@h", "Illegal character in URI encoding"),
            ("redis://h:99999", "Invalid server port."),
            ("redis://h/x", "Invalid URI: \"x\" is no database number"),
            ("redis://[::1", "Invalid URI: no ] behind the address"),
        ] {
            assert_eq!(parse(text), Err(words.to_owned()), "{text}");
        }
    }
}

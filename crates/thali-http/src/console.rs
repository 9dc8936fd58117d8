//! The console's pages, embedded when the program was built (see build.rs).
//!
//! They are served where no other route is: `/` is the page itself. Files under `assets/` have a hash in
//! their name and may be kept for ever; all others are asked for anew, by their tag.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/console-pages"]
struct Pages;

const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK: HeaderValue = HeaderValue::from_static("no-cache");
/// Scripts and styles come from here only; sockets may go to any port of any host, since the gateway may
/// be another node.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; connect-src 'self' ws: wss: http: https:; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
);

/// The page at this path, if the console has one.
pub(crate) fn page(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let name = match path.strip_prefix('/')? {
        "" => "index.html",
        name => name,
    };
    let file = Pages::get(name)?;
    let tag = tag(&file);
    let unchanged = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag);
    // To HEAD, hyper sends the headers of the whole and no body.
    let mut response = Response::new(if unchanged {
        Body::empty()
    } else {
        Body::from(match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        })
    });
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let out = response.headers_mut();
    out.insert(header::ETAG, tag);
    out.insert(header::CACHE_CONTROL, if name.starts_with("assets/") { KEEP } else { ASK });
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    out.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    Some(response)
}

fn tag(file: &EmbeddedFile) -> HeaderValue {
    let mut tag = String::with_capacity(34);
    tag.push('"');
    for byte in &file.metadata.sha256_hash()[..16] {
        tag.push_str(&format!("{byte:02x}"));
    }
    tag.push('"');
    HeaderValue::try_from(tag).expect("hexadecimal digits are visible ASCII")
}

/// What a Vite build is made of.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_page_and_it_is_sent_once() {
        let first = page(&Method::GET, "/", &HeaderMap::new()).expect("a page");
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        let again = page(&Method::GET, "/", &headers).expect("a page");
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn nothing_else_is_served() {
        for path in ["/nothing", "/../Cargo.toml", "//etc/passwd", "/assets/", ""] {
            assert!(page(&Method::GET, path, &HeaderMap::new()).is_none(), "{path}");
        }
        assert!(page(&Method::POST, "/", &HeaderMap::new()).is_none());
    }
}

//! The HTTP listener: how many connections, how long a request's head and body may take, and under
//! which names this server answers. What is answered is the router's.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;

/// Connections that a listener serves at a time; more wait in the system's queue. A WebSocket leaves
/// this count when it begins: the gateway counts its own.
const CONNECTIONS_MAX: u32 = 16_384;
/// How long a head may take, and how long a connection may rest between requests.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Rest after a failed accept: too many open files, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `ended`, then until the last open request is answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    mut ended: watch::Receiver<bool>,
    head_time_max: Duration,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let mut is_failing = false;
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("a semaphore that stays open");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.wait_for(|end| *end) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_failing = false;
                tokio::spawn(connection(stream, peer, router.clone(), ended.clone(), head_time_max, permit));
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "cannot accept HTTP connections; trying again until it works");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = permits.acquire_many(CONNECTIONS_MAX).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut ended: watch::Receiver<bool>,
    head_time_max: Duration,
    _permit: OwnedSemaphorePermit,
) {
    // Small answers go out at once; waiting to join them costs 40 ms.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time_max)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    // Errors are the peer's: it left, or did not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.wait_for(|end| *end) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The names under which a server answers that asks nobody who he is. A page of any site can point its
/// own name at 127.0.0.1 and then talk to this server as to its own (DNS rebinding); what it cannot
/// change is the name in `Host`.
#[derive(Clone, Debug)]
pub struct Names {
    any: bool,
    listed: Arc<[String]>,
}

impl Names {
    /// Every name where all parts ask for a secret; else this machine's, and those of `origins`.
    pub fn new(asks_all: bool, origins: &[String]) -> Self {
        let host =
            |origin: &String| host_name(origin.split_once("://").map_or(origin.as_str(), |(_, host)| host));
        Self {
            any: asks_all || origins.iter().any(|origin| origin == "*"),
            listed: origins.iter().map(host).collect(),
        }
    }

    /// `target` is the name in the request's own line, which a client of a proxy writes there.
    fn admit(&self, target: Option<&str>, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
            (None, _) => None,
            (Some(Ok(host)), None) => Some(host),
            // Two names: whoever looks at the other one would be deceived.
            _ => return false,
        };
        [target, host].into_iter().flatten().all(|name| self.knows(name))
    }

    fn knows(&self, host: &str) -> bool {
        let name = host_name(host);
        self.any
            || name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.listed.contains(&name)
    }
}

/// The name in `name:port`, in small letters; an IPv6 address without its brackets.
fn host_name(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Lets requests under known names through.
pub async fn check_name(names: Names, request: Request, next: Next) -> Result<Response, Infallible> {
    if names.admit(request.uri().host(), request.headers()) {
        return Ok(next.run(request).await);
    }
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": "Misdirected Request",
        "status": StatusCode::MISDIRECTED_REQUEST.as_u16(),
        "detail": "this server does not answer under the name in the header Host; add its origin to \
                   gateway-cors, or set http-token and gateway-auth jwt",
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    Ok((StatusCode::MISDIRECTED_REQUEST, kind, problem.to_string()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(names: &Names, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        names.admit(None, &headers)
    }

    #[test]
    fn an_open_server_answers_under_its_own_names_alone() {
        let names = Names::new(false, &["https://App.example:8443".to_owned()]);
        for own in
            ["localhost", "LOCALHOST:8379", "127.0.0.1:8379", "[::1]:8379", "app.example", "a.localhost"]
        {
            assert!(admits(&names, own), "{own}");
        }
        for foreign in
            ["evil.example", "evil.example:8379", "localhost.evil.example", "127.0.0.1.evil.example"]
        {
            assert!(!admits(&names, foreign), "{foreign}");
        }
        let mut both = HeaderMap::new();
        both.append(header::HOST, "localhost".parse().unwrap());
        assert!(names.admit(None, &both) && names.admit(Some("127.0.0.1"), &both));
        assert!(!names.admit(Some("evil.example"), &both));
        both.append(header::HOST, "evil.example".parse().unwrap());
        assert!(!names.admit(None, &both), "two names are one too many");
        assert!(admits(&Names::new(true, &[]), "any.example"));
        assert!(admits(&Names::new(false, &["*".to_owned()]), "any.example"));
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_given_up() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = watch::channel(false);
        let server = tokio::spawn(serve(listener, Router::new(), ended, Duration::from_millis(100)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "still open");
        end.send_replace(true);
        server.await.unwrap();
    }
}

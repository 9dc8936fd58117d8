//! The API against a real redis-server: what it does, and what it says to those who ask wrongly.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use thali_client::StoreAddress;
use thali_http::{Access, ApiState, Limits, Metrics, RoomError, RoomPublisher};
use thali_jobs::queue::{Queues, QueuesConfig};
use thali_testkit::{Running, start_redis};
use tower::ServiceExt;

#[derive(Default)]
struct Rooms(Mutex<Vec<(String, String, String)>>);

impl RoomPublisher for Rooms {
    fn publish<'a>(
        &'a self,
        room: &'a str,
        event: &'a str,
        data: &'a RawValue,
    ) -> Pin<Box<dyn Future<Output = Result<(), RoomError>> + Send + 'a>> {
        Box::pin(async move {
            match room {
                "away" => Err(RoomError::BusAway("gone".to_owned())),
                "picky" => Err(RoomError::Refused("no".to_owned())),
                _ => {
                    self.0.lock().unwrap().push((room.to_owned(), event.to_owned(), data.get().to_owned()));
                    Ok(())
                }
            }
        })
    }
}

struct Api {
    app: Router,
    rooms: Arc<Rooms>,
    server: Running,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
    text: String,
}

fn start(access: Access, limits: Limits) -> Api {
    let server = start_redis(&[]).unwrap();
    let address = StoreAddress::parse(&format!("redis://{}", server.store)).unwrap();
    let queues = Queues::open(&address, QueuesConfig::default()).unwrap();
    let rooms = Arc::new(Rooms::default());
    let state = ApiState::new(queues, Some(rooms.clone()), access, limits, Metrics::default());
    Api { app: thali_http::router(state), rooms, server }
}

fn api() -> Api {
    start(Access::default(), Limits::default())
}

impl Api {
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body, text }
    }

    async fn call(&self, method: Method, uri: &str, body: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.send(request.body(body.map_or(Body::empty(), |body| Body::from(body.to_owned()))).unwrap()).await
    }

    async fn get(&self, uri: &str) -> Answer {
        self.call(Method::GET, uri, None).await
    }

    async fn post(&self, uri: &str, body: &str) -> Answer {
        self.call(Method::POST, uri, Some(body)).await
    }

    async fn act(&self, uri: &str) -> Answer {
        self.call(Method::POST, uri, None).await
    }
}

impl Answer {
    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// A problem with this number, and this field or none.
    #[track_caller]
    fn problem(self, code: u16, field: &str) -> Self {
        assert_eq!(self.body["code"], code, "{}", self.text);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.body["status"], self.status.as_u16());
        assert_eq!(self.body["field"].as_str().unwrap_or_default(), field, "{}", self.text);
        assert!(self.body["type"].as_str().unwrap().ends_with(self.body["name"].as_str().unwrap()));
        self
    }
}

#[tokio::test]
async fn job_is_added_counted_and_shown() {
    let api = api();
    let body = r#"{"name":"mail","data":{"to":"a@b.c"},"opts":{"attempts":3}}"#;
    let added = api.post("/api/queues/post%20box/jobs", body).await.is(201);
    assert_eq!(added.body, json!({"id": "1"}));
    assert_eq!(added.headers[header::LOCATION], "/api/queues/post%20box/jobs/1");
    let job = api.get("/api/queues/post%20box/jobs/1").await.is(200);
    assert_eq!(job.body["name"], "mail");
    assert_eq!(job.body["state"], "waiting");
    assert_eq!(job.body["data"], json!({"to": "a@b.c"}));
    assert_eq!(job.body["opts"]["attempts"], 3);
    let queue = api.get("/api/queues/post%20box").await.is(200);
    assert_eq!(queue.body["counts"]["waiting"], 1);
    assert_eq!(queue.body["paused"], false);
    let list = api.get("/api/queues").await.is(200);
    assert_eq!(list.body["queues"][0]["name"], "post box");
    assert_eq!(list.body["complete"], true);
}

#[tokio::test]
async fn array_is_added_in_order() {
    let api = api();
    let added =
        api.post("/api/queues/q/jobs", r#"[{"name":"a"},{"name":"b","opts":{"jobId":"own"}}]"#).await.is(201);
    assert_eq!(added.body, json!({"ids": ["1", "own"]}));
    assert_eq!(added.headers[header::LOCATION], "/api/queues/q");
    let page = api.get("/api/queues/q/jobs?order=asc").await.is(200);
    assert_eq!(page.body["total"], 2);
    let names: Vec<_> = page.body["jobs"].as_array().unwrap().iter().map(|job| &job["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let page = api.get("/api/queues/q/jobs?start=1&end=9999999").await.is(200);
    assert_eq!(page.body["end"], 1000, "a page has a bound");
    let page = api.get("/api/queues/q/jobs?start=1&end=0").await.is(200);
    assert_eq!((&page.body["total"], &page.body["jobs"]), (&json!(2), &json!([])));
}

#[tokio::test]
async fn jobs_are_managed() {
    let api = api();
    api.post("/api/queues/q/jobs", r#"{"name":"a","opts":{"delay":60000}}"#).await.is(201);
    api.act("/api/queues/q/jobs/1/retry").await.is(409).problem(4001, "");
    api.act("/api/queues/q/jobs/1/promote").await.is(200);
    api.act("/api/queues/q/jobs/1/promote").await.is(409).problem(4001, "");
    assert_eq!(api.get("/api/queues/q/jobs/1").await.body["state"], "waiting");
    assert_eq!(api.get("/api/queues/q/jobs/1/logs").await.is(200).body["total"], 0);
    assert_eq!(api.act("/api/queues/q/pause").await.is(200).body, json!({"paused": true}));
    assert_eq!(api.get("/api/queues/q").await.body["paused"], true);
    assert_eq!(api.act("/api/queues/q/resume").await.is(200).body, json!({"paused": false}));
    api.call(Method::DELETE, "/api/queues/q/jobs/1", None).await.is(204);
    api.call(Method::DELETE, "/api/queues/q/jobs/1", None).await.is(404).problem(3003, "");
    api.post("/api/queues/q/jobs", r#"{"name":"a","opts":{"delay":60000}}"#).await.is(201);
    let cleaned = api.post("/api/queues/q/clean", r#"{"state":"delayed"}"#).await.is(200);
    assert_eq!(cleaned.body, json!({"ids": ["2"]}));
    api.act("/api/queues/q/clean").await.is(200);
    api.post("/api/queues/q/drain", r#"{"delayed":true}"#).await.is(200);
    api.act("/api/queues/q/drain").await.is(200);
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let api = api();
    for uri in ["/api/queues/none", "/api/queues/none/jobs"] {
        api.get(uri).await.is(404).problem(3002, "");
    }
    for uri in ["/api/queues/none/jobs/1", "/api/queues/none/jobs/1/logs"] {
        api.get(uri).await.is(404).problem(3003, "");
    }
    for action in ["pause", "resume", "clean", "drain"] {
        api.act(&format!("/api/queues/none/{action}")).await.is(404).problem(3002, "");
    }
    for action in ["retry", "promote"] {
        api.act(&format!("/api/queues/none/jobs/1/{action}")).await.is(404).problem(3003, "");
    }
    api.get("/api/nothing").await.is(404).problem(3001, "");
    let answer = api.call(Method::PUT, "/api/queues/q/jobs", None).await.is(405).problem(3004, "");
    let allow = answer.headers[header::ALLOW].to_str().unwrap().to_owned();
    assert!(allow.contains("POST") && allow.contains("GET"), "{allow}");
}

#[tokio::test]
async fn bad_bodies_name_their_field() {
    let api = api();
    let check = async |body: &str, status: u16, code: u16, field: &str| {
        api.post("/api/queues/q/jobs", body).await.is(status).problem(code, field);
    };
    check("", 400, 1001, "").await;
    check(r#"{"name":"a""#, 400, 1001, "").await;
    check(r#"{"name":"a","data":nope}"#, 400, 1001, "").await;
    check("null", 422, 1004, "").await;
    check("[]", 422, 1003, "[0]").await;
    check(r#"{"name":"a","oops":1}"#, 422, 1002, "oops").await;
    check(r#"{"name":"a","opts":{"dealy":1}}"#, 422, 1002, "opts.dealy").await;
    check(r#"{"data":1}"#, 422, 1003, "name").await;
    check(r#"{"name":"a","opts":{"delay":"1s"}}"#, 422, 1004, "opts.delay").await;
    check(
        r#"{"name":"a","opts":{"backoff":{"type":"fixed","delay":"1s"}}}"#,
        422,
        1004,
        "opts.backoff.delay",
    )
    .await;
    check(r#"{"name":"a","opts":{"priority":99999999}}"#, 422, 1005, "opts.priority").await;
    check(r#"[{"name":"a"},{"name":"b","opts":{"lifo":"yes"}}]"#, 422, 1004, "[1].opts.lifo").await;
    check(r#"{"name":"a","opts":{"parent":{"id":"x","queue":"y"}}}"#, 409, 4004, "opts.parent").await;
    let some = r#"[{"name":"a"},{"name":"b","opts":{"parent":{"id":"x","queue":"y"}}}]"#;
    let partly = api.post("/api/queues/q/jobs", some).await.is(409).problem(4006, "[1]");
    assert!(partly.body["ids"][0].is_string() && partly.body["ids"][1].is_null());
    api.post("/api/queues/q/clean", r#"{"state":"lost"}"#).await.is(422).problem(1005, "state");
    api.post("/api/queues/q/clean", r#"{"limit":0}"#).await.is(422).problem(1005, "limit");
    api.post("/api/queues/q/clean", r#"{"state":"waiting-children"}"#).await.is(422).problem(1005, "state");
    api.post("/api/queues/q/drain", r#"{"delayed":1}"#).await.is(422).problem(1004, "delayed");
    api.post("/api/queues/q/clean", r#"{"state":null,"limit":5.0}"#).await.is(200);
    api.post("/api/queues/q/clean", "null").await.is(200);
    api.post("/api/queues/q/clean", r#"{"state":7}"#).await.is(422).problem(1004, "state");
    api.post("/api/queues/q/clean", r#"{"grace":316224000001}"#).await.is(422).problem(1005, "grace");
    api.post("/api/queues/q/drain", "[]").await.is(422).problem(1004, "");
}

#[tokio::test]
async fn bad_paths_and_queries_are_400() {
    let api = api();
    for uri in ["/api/queues/a%3Ab", "/api/queues/a%00b", "/api/queues/%ff", "/api/queues/a%3Ab/jobs/1"] {
        api.get(uri).await.is(400).problem(1007, "");
    }
    api.post("/api/queues/a:b/jobs", r#"{"name":"a"}"#).await.is(400).problem(1007, "");
    api.post(&format!("/api/queues/{}/jobs", "x".repeat(257)), r#"{"name":"a"}"#).await.is(400);
    api.post("/api/queues/q/jobs", r#"{"name":"a"}"#).await.is(201);
    for (query, field) in [
        ("state=lost", "state"),
        ("order=up", "order"),
        ("start=-1", "start"),
        ("start=x", "start"),
        ("start=4294967296", "start"),
        ("end=99999999999999999999", "end"),
        ("page=2", "page"),
        ("start=1&start=2", "start"),
    ] {
        api.get(&format!("/api/queues/q/jobs?{query}")).await.is(400).problem(1006, field);
    }
}

#[tokio::test]
async fn body_must_be_json_by_its_header() {
    let api = api();
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut request = Request::builder().method(Method::POST).uri("/api/queues/q/jobs");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        api.send(request.body(Body::from(r#"{"name":"a"}"#)).unwrap()).await.is(415).problem(1009, "");
    }
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/queues/q/jobs")
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    api.send(request.body(Body::from(r#"{"name":"a"}"#)).unwrap()).await.is(201);
}

#[tokio::test]
async fn oversized_bodies_are_413() {
    let limits = Limits { job_bytes_max: 100, batch_bytes_max: 1000, batch_jobs_max: 3, event_bytes_max: 50 };
    let api = start(Access::default(), limits);
    let job = |bytes: usize| format!(r#"{{"name":"a","data":"{}"}}"#, "x".repeat(bytes));
    api.post("/api/queues/q/jobs", &job(98)).await.is(201);
    api.post("/api/queues/q/jobs", &job(99)).await.is(413).problem(1008, "data");
    api.post("/api/queues/q/jobs", &job(2000)).await.is(413).problem(1008, "");
    let two = format!("[{},{}]", job(1), job(99));
    api.post("/api/queues/q/jobs", &two).await.is(413).problem(1008, "[1].data");
    let many = format!("[{}]", [job(1), job(1), job(1), job(1)].join(","));
    api.post("/api/queues/q/jobs", &many).await.is(422).problem(1005, "");
    let event = format!(r#"{{"event":"e","data":"{}"}}"#, "x".repeat(60));
    api.post("/api/rooms/r/events", &event).await.is(413).problem(1008, "data");
    assert_eq!(api.get("/api/queues/q").await.body["counts"]["waiting"], 1);
}

#[tokio::test]
async fn events_reach_the_gateway() {
    let api = api();
    let answer = api.post("/api/rooms/team%201/events", r#"{"event":"news","data":{"a":[1]}}"#).await.is(202);
    assert_eq!(answer.body, json!({"room": "team 1"}));
    api.post("/api/rooms/r/events", r#"{"event":"ping"}"#).await.is(202);
    let seen = api.rooms.0.lock().unwrap().clone();
    assert_eq!(seen[0], ("team 1".to_owned(), "news".to_owned(), r#"{"a":[1]}"#.to_owned()));
    assert_eq!(seen[1].2, "null");
    for (body, code, field) in [
        (r#"{"data":1}"#, 1003, "event"),
        (r#"{"event":""}"#, 1005, "event"),
        (r#"{"event":"disconnect"}"#, 1005, "event"),
        (r#"{"event":1}"#, 1004, "event"),
        (r#"{"event":"e","to":1}"#, 1002, "to"),
    ] {
        api.post("/api/rooms/r/events", body).await.is(422).problem(code, field);
    }
    api.post("/api/rooms/away/events", r#"{"event":"e"}"#).await.is(503).problem(5001, "");
    api.post("/api/rooms/picky/events", r#"{"event":"e"}"#).await.is(422).problem(1005, "");
    api.post("/api/rooms/a%00b/events", r#"{"event":"e"}"#).await.is(400).problem(1007, "");
}

#[tokio::test]
async fn token_guards_everything_but_health() {
    let api = start(Access::new(Some("s3cret".to_owned())), Limits::default());
    for uri in ["/api/queues", "/metrics", "/api/queues/q/jobs/1"] {
        let answer = api.get(uri).await.is(401).problem(2001, "");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
    }
    api.post("/api/queues/q/jobs", r#"{"name":"a"}"#).await.is(401);
    for uri in ["/healthz", "/readyz", "/openapi.json"] {
        api.get(uri).await.is(200);
    }
    let request = Request::builder().uri("/api/queues").header(header::AUTHORIZATION, "Bearer s3cret");
    api.send(request.body(Body::empty()).unwrap()).await.is(200);
}

#[tokio::test]
async fn pages_of_foreign_origins_may_not_write() {
    let api = api();
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/queues/q/pause")
        .header(header::HOST, "127.0.0.1:8379")
        .header(header::ORIGIN, "https://evil.example");
    api.send(request.body(Body::empty()).unwrap()).await.is(403).problem(2002, "");
}

#[tokio::test]
async fn listed_origins_may_write_and_browsers_are_told() {
    let origin = "https://app.example";
    let api = start(Access::default().with_origins(vec![origin.to_owned()]), Limits::default());
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/api/queues/q/jobs")
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type");
    let answer = api.send(preflight.body(Body::empty()).unwrap()).await.is(200);
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], origin);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/queues/q/jobs")
        .header(header::ORIGIN, origin)
        .header(header::CONTENT_TYPE, "application/json");
    let answer = api.send(request.body(Body::from(r#"{"name":"a"}"#)).unwrap()).await.is(201);
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], origin);
}

#[tokio::test]
async fn console_is_served_where_no_route_is() {
    let api = api();
    let answer = api.get("/").await.is(200);
    assert!(answer.text.starts_with("<!doctype html>") || answer.text.starts_with("<!DOCTYPE html>"));
    api.act("/").await.is(404).problem(3001, "");
}

#[tokio::test]
async fn request_id_is_kept_or_given() {
    let api = api();
    let ask = async |id: Option<&str>| {
        let mut request = Request::builder().uri("/healthz");
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        let answer = api.send(request.body(Body::empty()).unwrap()).await.is(200);
        answer.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask(Some("abc-1")).await, "abc-1");
    assert_ne!(ask(Some("a b")).await, "a b");
    assert_ne!(ask(Some(&"x".repeat(65))).await.len(), 65);
    assert_ne!(ask(None).await, ask(None).await);
}

#[tokio::test]
async fn metrics_tell_of_queues_and_requests() {
    let api = api();
    api.post("/api/queues/q/jobs", r#"{"name":"a","opts":{"timestamp":1700000000000}}"#).await.is(201);
    api.get("/api/nothing/with/an/endless/number/of/names").await.is(404);
    let text = api.get("/metrics").await.is(200).text;
    for line in [
        r#"thali_queue_jobs{queue="q",state="waiting"} 1"#,
        r#"thali_queue_paused{queue="q"} 0"#,
        r#"thali_http_requests_total{method="POST",route="/api/queues/{queue}/jobs",status="201"} 1"#,
        r#"thali_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        "thali_http_jobs_added_total 1",
        "thali_store_up 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let age =
        text.lines().find_map(|line| line.strip_prefix(r#"thali_queue_oldest_waiting_seconds{queue="q"} "#));
    assert!(age.unwrap().parse::<f64>().unwrap() > 1000.0);
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn store_away_is_503_with_retry_after_and_heals() {
    let mut api = api();
    api.post("/api/queues/q/jobs", r#"{"name":"a"}"#).await.is(201);
    api.get("/readyz").await.is(200);
    api.server.process.kill9().unwrap();
    for answer in [
        api.post("/api/queues/q/jobs", r#"{"name":"a"}"#).await,
        api.post("/api/queues/q/jobs", r#"[{"name":"a"}]"#).await,
        api.get("/api/queues").await,
        api.get("/api/queues/q/jobs/1").await,
        api.act("/api/queues/q/pause").await,
        api.get("/readyz").await,
    ] {
        let answer = answer.is(503).problem(5001, "");
        assert_eq!(answer.headers[header::RETRY_AFTER], "1");
        assert_eq!(answer.body["retryable"], true);
    }
    api.get("/healthz").await.is(200);
    assert!(api.get("/metrics").await.is(200).text.contains("thali_store_up 0"));
}

#[tokio::test]
async fn store_without_writes_is_503_for_a_while() {
    let api = api();
    let mut client = thali_testkit::RespClient::connect(&api.server.store).unwrap();
    client.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    let answer = api.post("/api/queues/q/jobs", r#"{"name":"a"}"#).await.is(503).problem(5005, "");
    assert_eq!(answer.body["retryable"], true);
    client.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    api.post("/api/queues/q/jobs", r#"{"name":"a"}"#).await.is(201);
    client.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    api.post("/api/queues/q/jobs", r#"{"name":"a"}"#).await.is(503).problem(5005, "");
    api.post("/api/queues/q/jobs", r#"[{"name":"a"}]"#).await.is(503).problem(5005, "");
}

#[tokio::test]
async fn store_that_refuses_is_503_for_good() {
    let api = api();
    let mut client = thali_testkit::RespClient::connect(&api.server.store).unwrap();
    client.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let answer = api.post("/api/queues/q/jobs", r#"{"name":"a"}"#).await.is(503).problem(5002, "");
    assert_eq!(answer.body["retryable"], false);
}

#[tokio::test]
async fn openapi_page_lists_every_route_and_failure() {
    let api = api();
    let page = api.get("/openapi.json").await.is(200).body;
    assert!(page["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in [
        "/api/queues",
        "/api/queues/{queue}",
        "/api/queues/{queue}/jobs",
        "/api/queues/{queue}/jobs/{id}",
        "/api/queues/{queue}/jobs/{id}/logs",
        "/api/queues/{queue}/jobs/{id}/retry",
        "/api/queues/{queue}/jobs/{id}/promote",
        "/api/queues/{queue}/pause",
        "/api/queues/{queue}/resume",
        "/api/queues/{queue}/clean",
        "/api/queues/{queue}/drain",
        "/api/rooms/{room}/events",
        "/metrics",
        "/healthz",
        "/readyz",
    ] {
        assert!(page["paths"][path].is_object(), "{path}");
    }
    let responses = page["paths"]["/api/queues/{queue}/jobs"]["post"]["responses"].as_object().unwrap();
    for status in ["201", "400", "401", "403", "409", "413", "415", "422", "503"] {
        assert!(responses.contains_key(status), "{status}");
    }
    assert!(page["components"]["schemas"]["JobOptions"]["properties"]["backoff"].is_object());
}

#[tokio::test]
async fn real_sockets_serve_many_producers_at_once() {
    const PRODUCERS: usize = 8;
    const JOBS_EACH: usize = 50;
    let api = api();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = api.app.clone();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|_| {
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let body = r#"{"name":"a","data":{"n":1}}"#;
                let request = format!(
                    "POST /api/queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                for _ in 0..JOBS_EACH {
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let mut answer = Vec::new();
                    while !answer.ends_with(b"}") {
                        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the connection ended");
                    }
                    assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.unwrap();
    }
    serving.abort();
    let waiting = &api.get("/api/queues/q").await.body["counts"]["waiting"];
    assert_eq!(*waiting, PRODUCERS * JOBS_EACH);
}

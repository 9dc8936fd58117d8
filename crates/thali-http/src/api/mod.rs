//! The routes, and the OpenAPI page that describes them.

mod faults;
mod jobs;
mod paths;
mod queues;
mod rooms;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::time::Duration;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoResponses, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::{Code, Failure, Problem};
use crate::{Access, ApiState, console, health, metrics, observe};

/// Bounds on what one request may bring.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one job's data.
    pub job_bytes_max: usize,
    /// Bytes of a body that holds an array of jobs.
    pub batch_bytes_max: usize,
    /// Jobs in one array.
    pub batch_jobs_max: usize,
    /// Bytes of an event's data.
    pub event_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            job_bytes_max: 1 << 20,
            batch_bytes_max: 16 << 20,
            batch_jobs_max: 10_000,
            event_bytes_max: 1 << 20,
        }
    }
}

/// How long a browser may remember what it may do.
const PREFLIGHT_KEPT: Duration = Duration::from_secs(600);
/// What a body may have besides the data that it is for.
pub(crate) const ENVELOPE_BYTES_MAX: usize = 64 << 10;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Thali",
        description = "Jobs, queues and rooms over HTTP. Options of jobs have BullMQ's words and meaning. \
            Every failure is an RFC 9457 problem with a stable number and name.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "jobs", description = "Adding and looking after jobs"),
        (name = "queues", description = "Queues as a whole"),
        (name = "rooms", description = "Events to sockets"),
        (name = "operations", description = "Health and figures"),
    ),
    security((), ("bearer" = [])),
    components(schemas(Problem)),
)]
struct Description;

/// The API's description, as `/openapi.json` serves it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (mut protected, open) = (protected(), open());
    let api = protected.get_openapi_mut();
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            for (status, response) in faults::Everywhere::responses() {
                operation.responses.responses.entry(status).or_insert(response);
            }
        }
    }
    api.merge(open.into_openapi());
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    api.components.get_or_insert_default().add_security_scheme("bearer", bearer);
    protected.into_openapi()
}

/// The description with what Rust's types cannot say: options that exclude each other.
fn page() -> Value {
    const ON_FAILURE: [&str; 4] = [
        "removeDependencyOnFailure",
        "failParentOnFailure",
        "continueParentOnFailure",
        "ignoreDependencyOnFailure",
    ];
    let mut page = serde_json::to_value(openapi()).expect("the description prints as JSON");
    let mut excluded = vec![json!({
        "required": ["parent", "deduplication"],
        "properties": { "parent": { "type": "object" }, "deduplication": { "type": "object" } },
    })];
    for (index, first) in ON_FAILURE.iter().enumerate() {
        for second in &ON_FAILURE[index + 1..] {
            let on = json!({ "const": true });
            excluded.push(json!({ "required": [first, second], "properties": { *first: on, *second: on } }));
        }
    }
    let schemas = &mut page["components"]["schemas"];
    schemas["JobOptions"]["not"] = json!({ "anyOf": excluded });
    let one_of = |field: &str| json!({ "required": [field], "properties": { field: { "type": "integer" } } });
    // One job, or an array of them that is not empty.
    schemas["NewJobs"]["oneOf"][1]["minItems"] = json!(1);
    schemas["KeepPolicy"]["anyOf"] = json!([one_of("age"), one_of("count")]);
    page
}

/// Routes that need the token, if there is one.
fn protected() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(jobs::add, jobs::page))
        .routes(routes!(jobs::show, jobs::remove))
        .routes(routes!(jobs::logs))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::promote))
        .routes(routes!(queues::list))
        .routes(routes!(queues::show))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::clean))
        .routes(routes!(queues::drain))
        .routes(routes!(rooms::publish))
        .routes(routes!(metrics::scrape))
}

/// Routes for everybody.
fn open() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(health::healthz)).routes(routes!(health::readyz))
}

/// All routes of the API, ready to serve or to merge with others; unknown paths get a problem.
pub fn router(state: ApiState) -> Router {
    let page = Bytes::from(page().to_string());
    let serve_page =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], page).into_response() };
    let protected = Router::from(protected()).route_layer(from_fn_with_state(state.clone(), observe::admit));
    let router = protected
        .merge(Router::from(open()))
        .route("/openapi.json", get(serve_page))
        .method_not_allowed_fallback(no_method)
        .fallback(no_route)
        .layer(DefaultBodyLimit::disable());
    let router =
        if state.access().origins().is_empty() { router } else { router.layer(cors(state.access())) };
    router.layer(from_fn_with_state(state.clone(), observe::observe)).with_state(state)
}

/// What no route is for: the console's pages, or nothing.
async fn no_route(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(page) = console::page(&method, uri.path(), &headers) {
        return page;
    }
    let detail = format!("nothing is at '{}'; /openapi.json lists what there is", uri.path());
    Failure::new(Code::NO_ROUTE, detail).into_response()
}

/// Answers browsers that ask on behalf of pages of the origins in `gateway-cors`.
fn cors(access: &Access) -> CorsLayer {
    let origins = access.origins();
    let origins = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION, observe::REQUEST_ID])
        .expose_headers([header::LOCATION, header::RETRY_AFTER, observe::REQUEST_ID])
        .max_age(PREFLIGHT_KEPT)
}

async fn no_method(uri: Uri) -> Failure {
    Failure::new(Code::NO_METHOD, format!("'{}' takes other methods; see the header Allow", uri.path()))
}

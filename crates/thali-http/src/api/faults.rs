//! The failures that groups of routes share, for the OpenAPI page.

#![expect(dead_code, reason = "these types describe; nothing makes one")]

use utoipa::IntoResponses;

use crate::problem::Problem;

#[derive(IntoResponses)]
pub(crate) enum NotThere {
    /// The path names nothing that could exist.
    #[response(status = BAD_REQUEST, content_type = "application/problem+json")]
    BadPath(Problem),
    /// No such queue or job.
    #[response(status = NOT_FOUND, content_type = "application/problem+json")]
    NotFound(Problem),
}

#[derive(IntoResponses)]
pub(crate) enum BadQuery {
    /// The path or the query string is wrong.
    #[response(status = BAD_REQUEST, content_type = "application/problem+json")]
    BadQuery(Problem),
}

#[derive(IntoResponses)]
pub(crate) enum BadBody {
    /// The path is wrong, or the body is not JSON.
    #[response(status = BAD_REQUEST, content_type = "application/problem+json")]
    Malformed(Problem),
    /// The body, or a job's data, is larger than the limits.
    #[response(status = PAYLOAD_TOO_LARGE, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The content type is not application/json.
    #[response(status = UNSUPPORTED_MEDIA_TYPE, content_type = "application/problem+json")]
    NotJson(Problem),
    /// A field is unknown, missing, of the wrong type or out of bounds.
    #[response(status = UNPROCESSABLE_ENTITY, content_type = "application/problem+json")]
    BadField(Problem),
}

#[derive(IntoResponses)]
pub(crate) enum Conflict {
    /// The job is in a state that does not allow this, or is being worked on.
    #[response(status = CONFLICT, content_type = "application/problem+json")]
    Conflict(Problem),
}

/// What may happen to every request that needs the store and the token.
#[derive(IntoResponses)]
pub(crate) enum Everywhere {
    /// The bearer token is missing or wrong.
    #[response(status = UNAUTHORIZED, content_type = "application/problem+json")]
    NoToken(Problem),
    /// A page of a foreign origin sent this.
    #[response(status = FORBIDDEN, content_type = "application/problem+json")]
    ForeignOrigin(Problem),
    /// The store answered something unexpected.
    #[response(status = INTERNAL_SERVER_ERROR, content_type = "application/problem+json")]
    Internal(Problem),
    /// The store is away or refuses.
    #[response(status = SERVICE_UNAVAILABLE, content_type = "application/problem+json")]
    StoreAway(Problem),
}

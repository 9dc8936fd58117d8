//! The HTTP API, its OpenAPI page, metrics, health and the console's pages.

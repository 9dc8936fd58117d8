//! How the fields that take several shapes look in an OpenAPI page.

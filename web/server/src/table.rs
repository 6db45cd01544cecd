//! The route table: every route with the role that it needs. The router is built from it and from
//! nothing else, so that no route can be without one.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use crate::app::App;
use crate::doors::{self, Role};
use crate::error;

/// What it takes to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    /// Nothing: health checks and the page's own files.
    Nothing,
    /// A token with at least this role.
    Role(Role),
}

/// Reads and asks.
pub(crate) const VIEWER: Needs = Needs::Role(Role::Viewer);
/// Runs, restarts, plans and approves.
pub(crate) const OPERATOR: Needs = Needs::Role(Role::Operator);
/// Open to everybody.
pub(crate) const OPEN: Needs = Needs::Nothing;

/// A row of the table.
pub(crate) struct Route {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the tests walk the table by it")
    )]
    pub(crate) method: Method,
    /// As axum and OpenAPI write it: `/api/runs/{id}`.
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    handler: MethodRouter<App>,
}

impl Route {
    fn new<H: Handler<T, App>, T: 'static>(
        method: Method,
        filter: MethodFilter,
        (path, needs): (&'static str, Needs),
        handler: H,
    ) -> Self {
        Self {
            method,
            path,
            needs,
            handler: on(filter, handler),
        }
    }
}

/// A row for GET, and with it HEAD.
pub(crate) fn get<H: Handler<T, App>, T: 'static>(
    path: &'static str,
    needs: Needs,
    handler: H,
) -> Route {
    Route::new(Method::GET, MethodFilter::GET, (path, needs), handler)
}

/// A row for POST.
pub(crate) fn post<H: Handler<T, App>, T: 'static>(
    path: &'static str,
    needs: Needs,
    handler: H,
) -> Route {
    Route::new(Method::POST, MethodFilter::POST, (path, needs), handler)
}

/// A row for DELETE.
pub(crate) fn delete<H: Handler<T, App>, T: 'static>(
    path: &'static str,
    needs: Needs,
    handler: H,
) -> Route {
    Route::new(Method::DELETE, MethodFilter::DELETE, (path, needs), handler)
}

/// The router of a table. What no row says is 404 or 405, and wants a token first.
pub(crate) fn router(table: Vec<Route>) -> Router<App> {
    let check = |needs| doors::checked(move |request: &mut Request| doors::require(needs, request));
    let mut router = Router::new();
    for row in table {
        router = router.route(row.path, row.handler.route_layer(check(row.needs)));
    }
    router
        .method_not_allowed_fallback(error::no_method.layer(check(VIEWER)))
        .fallback(error::no_route.layer(check(VIEWER)))
}

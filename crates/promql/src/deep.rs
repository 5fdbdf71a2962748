//! Recursion over trees as deep as the parser lets them be.

use crate::ast::Expr;
use crate::value::QueryError;

/// Trees up to this deep need no stack of their own.
const SHALLOW: usize = 40;
/// The stack for deeper ones, bytes; only what is touched becomes memory.
const STACK: usize = 64 << 20;

/// Runs `f`, which recurses over `expr`: on a thread with a larger stack if it is deep. It must
/// not wait for anything.
pub(crate) fn call<T: Send>(
    expr: &Expr,
    f: impl FnOnce() -> Result<T, QueryError> + Send,
) -> Result<T, QueryError> {
    run(depth(expr), f)
}

/// Runs `f`, which recurses over what became of an expression of this [`depth`].
pub(crate) fn run<T: Send>(
    depth: usize,
    f: impl FnOnce() -> Result<T, QueryError> + Send,
) -> Result<T, QueryError> {
    if depth <= SHALLOW {
        return f();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("query-planner".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, f);
        match thread.map(|t| t.join()) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(QueryError::Internal("the planner failed".to_owned())),
            Err(e) => Err(QueryError::Internal(format!("no thread to plan on: {e}"))),
        }
    })
}

/// How many expressions stand around the innermost one.
pub(crate) fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(expr, 1)];
    while let Some((expr, depth)) = open.pop() {
        deepest = deepest.max(depth);
        expr.each_child(&mut |inner| open.push((inner, depth + 1)));
    }
    deepest
}

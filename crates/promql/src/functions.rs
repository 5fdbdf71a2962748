//! The table of functions: names, argument types, return types.

use crate::ast::ValueType;

/// A function's signature.
#[derive(Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Types of its arguments.
    pub args: &'static [ValueType],
    /// How many of the last argument may be left out (`n > 0`), or -1: the last may be repeated
    /// without end; 0: exactly these.
    pub variadic: i32,
    /// What it returns.
    pub returns: ValueType,
    /// Whether it needs `promql-experimental-functions`.
    pub experimental: bool,
}

use crate::lua::Stack;

pub(crate) fn register(_stack: Stack<'_>) {}

//! All promises in one binary: one file each. Real parts wherever there is one; only the identity
//! provider is emulated.

mod support;

mod architecture;
mod dead_grant;
mod interop_node;
mod interop_python;
mod silent;

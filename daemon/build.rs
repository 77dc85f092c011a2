//! Exports the two entry points of the embedded token from every executable that
//! links the daemon's library, so that it is opened like any other PKCS#11 module.
//! Exactly these two names: a wider export would put the token's OpenSSL in front
//! of the system's for every module loaded later.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["C_GetFunctionList", "C_GetInterface"] {
        // Binaries, tests (the library's unit tests among them) and benches.
        println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={name}");
    }
}

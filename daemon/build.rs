//! Exports the two entry points of the embedded token from every executable that opens
//! it, so that it is opened like any other PKCS#11 module. Exactly these two names: a
//! wider export would put the token's OpenSSL in front of the system's for every module
//! loaded later. The HSM helper loads the modules of others, and exports nothing.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=no-exports.ld");
    for name in ["C_GetFunctionList", "C_GetInterface"] {
        // Binaries, tests (the library's unit tests among them) and benches: Cargo has no
        // word for all but one of them.
        println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={name}");
    }
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-arg-bin=clavigerd-hsm=-Wl,--version-script={dir}/no-exports.ld");
}

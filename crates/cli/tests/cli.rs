//! What the binary says and how it ends where no server is needed: `cmd/*.toml`, one case a file. After a change that is
//! meant, `TRYCMD=overwrite cargo test -p kluis-cli --test cli` writes the new texts; the change is then read in review.

use std::path::Path;

#[test]
fn every_case_says_what_its_file_says() {
    trycmd::TestCases::new()
        .register_bin("kluis", Path::new(env!("CARGO_BIN_EXE_kluis")))
        .default_bin_name("kluis")
        .case("tests/cmd/*.toml");
}

//! Digests and names: their text forms, and what is no such text.

use executor_integrity::{Digest, RelativeName};

#[test]
fn a_digest_is_what_the_standard_says_in_lowercase_digits() {
    // FIPS 180-4's example for "abc".
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Digest::of(b"abc").to_string(), text);
    assert_eq!(Digest::of_reader(&b"abc"[..]).unwrap(), Digest::of(b"abc"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "abc").unwrap();
    assert_eq!(Digest::of_file(file.path()).unwrap(), Digest::of(b"abc"));
    assert_eq!(text.parse::<Digest>().unwrap(), Digest::of(b"abc"));
    let json = serde_json::to_string(&Digest::of(b"abc")).unwrap();
    assert_eq!(json, format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), Digest::of(b"abc"));
}

#[test]
fn a_text_that_is_no_digest_is_refused_with_what_would_be_right() {
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for bad in ["", "abc", &text.to_uppercase(), &text[1..], &format!("{text}0"), &text.replace('b', "g")] {
        let error = bad.parse::<Digest>().unwrap_err();
        assert!(error.to_string().contains("64 lowercase hexadecimal digits"), "{error}");
    }
}

#[test]
fn names_within_the_grammar_are_taken_as_they_are() {
    let deepest = ["a"; 8].join("/");
    let longest = "x".repeat(255);
    for good in ["a", "_", "9", "deploy/web.sh", "A.b-c_d..e", "a/b/_c.-", &deepest, &longest] {
        assert_eq!(RelativeName::new(good).unwrap().as_str(), good);
        let json = serde_json::to_string(good).unwrap();
        assert_eq!(serde_json::from_str::<RelativeName>(&json).unwrap().as_str(), good);
    }
}

#[test]
fn names_outside_the_grammar_are_refused_with_the_rule() {
    let too_deep = ["a"; 9].join("/");
    let too_long = "x".repeat(256);
    let bad = [
        "",
        ".",
        "..",
        "/",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a/..",
        "a/../b",
        "../a",
        "-a",
        ".a",
        "a/.b",
        "a b",
        "a\nb",
        "a\0b",
        "a\\b",
        "a%2fb",
        "~",
        "a:b",
        "ä",
        "a\u{202e}b",
        "a*",
        "$a",
        &too_deep,
        &too_long,
    ];
    for bad in bad {
        let error = RelativeName::new(bad).expect_err(bad);
        assert!(error.to_string().starts_with("the "), "{error}");
        serde_json::from_str::<RelativeName>(&serde_json::to_string(bad).unwrap()).expect_err(bad);
    }
}

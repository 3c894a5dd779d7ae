//! Damaged files.

use crate::support::parts::{model_error, open_bytes, raw};

#[test]
fn damaged_files_are_described() {
    let entry = |name: &str, dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let one = |dtype: &str, shape: &str, begin, end| format!("{{{}}}", entry("w", dtype, shape, begin, end));
    let two = |a: (u64, u64), b: (u64, u64)| {
        format!("{{{},{}}}", entry("a", "U8", "[4]", a.0, a.1), entry("b", "U8", "[4]", b.0, b.1))
    };
    let long_name = format!("{{{}}}", entry(&"n".repeat(300), "F32", "[1]", 0, 4));
    let many_dims = one("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4);
    let length = |n: u64| n.to_le_bytes().to_vec();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "expected at least 8 bytes, found 0"),
        (vec![1; 7], "expected at least 8 bytes, found 7"),
        (length(100), "expected at least 108 bytes, found 8"),
        (length(u64::MAX), "a header of 18446744073709551615 bytes"),
        (length(200_000_000), "a header of 200000000 bytes, but the safetensors format allows 100000000"),
        (length(100_000_001), "allows 100000000"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        (b"GGUF\x03\0\0\0\0\0\0\0".to_vec(), "GGUF"),
        (b"PK\x03\x04\0\0\x08\x08\0\0".to_vec(), "PyTorch"),
        (length(0), "EOF while parsing a value at line 1 column 0"),
        (raw("{\"w\": nonsense}", 4), "header is damaged: expected ident at line 1 column 8"),
        (raw("[1, 2]", 0), "expected an object whose keys are tensor names"),
        (raw("{\"w\": {\"dtype\": \"F32\"}}", 0), "missing field `shape`"),
        (raw("{} x", 0), "trailing characters"),
        (raw("{\"\u{0}\":1}", 0), "header is damaged"),
        (raw(&one("F32", "[-1]", 0, 4), 4), "header is damaged"),
        (raw(&one("F32", "[1.5]", 0, 4), 4), "header is damaged"),
        (raw(&one("F32", "\"no\"", 0, 4), 4), "expected a list of dimensions"),
        (raw(&long_name, 4), "a tensor name of 300 bytes"),
        (raw(&many_dims, 4), "more than 8 dimensions"),
        (
            raw(&one("F32", "[2]", 0, 4), 4),
            "tensor \"w\": shape [2] of F32 needs 2 x 32 bits, but the header gives it 4 bytes",
        ),
        (
            raw(&one("U8", "[2]", 0, 8), 8),
            "shape [2] of U8 needs 2 x 8 bits, but the header gives it 8 bytes",
        ),
        (
            raw(&one("F16", "[2]", 0, 8), 8),
            "shape [2] of F16 needs 2 x 16 bits, but the header gives it 8 bytes",
        ),
        (raw(&one("F32", "[1]", 4, 0), 4), "data from byte 4 to 0 is not possible"),
        (raw(&one("U8", "[4294967296,4294967296]", 0, 4), 4), "is not possible"),
        (raw(&one("F32", "[4611686018427387904]", 0, 0), 0), "tensor \"w\": shape"),
        (raw(&one("X9", "[1]", 0, u64::MAX), 1), "is truncated: expected 18446744073709551615 bytes"),
        (raw(&one("U8", "[1]", u64::MAX, u64::MAX), 1), "is not possible"),
        (raw(&one("F32", "[1]", 2, 6), 6), "a hole"),
        (raw(&two((0, 4), (2, 6)), 6), "tensor \"b\" begins at byte 115, but the one before it ends at 117"),
        (raw(&two((0, 4), (0, 4)), 4), "overlapping tensors"),
        (raw(&two((0, 4), (5, 9)), 9), "a hole"),
        (raw(&two((0, 4), (4, 8)), 7), "is truncated: expected 121 bytes, found 120"),
        (raw(&two((0, 4), (4, 8)), 9), "the tensors end at byte 121, but the file has 122 bytes: 1 too many"),
        (raw("{}", 3), "3 too many"),
    ];
    for (bytes, expected) in cases {
        let text = model_error(open_bytes(&bytes));
        assert!(
            text.contains("model.safetensors: ") && text.contains(expected),
            "{text}\nexpected {expected}"
        );
    }
    let twice = format!("{{{},{}}}", entry("w", "U8", "[1]", 0, 1), entry("w", "U8", "[1]", 1, 2));
    assert!(model_error(open_bytes(&raw(&twice, 2))).contains("tensor \"w\" occurs twice"));
    // Unusual but valid files are accepted: no tensors, an unknown element type.
    assert!(open_bytes(&raw("{} ", 0)).unwrap().tensors().is_empty());
    assert!(open_bytes(&raw(&one("F128_NEW", "[3]", 0, 5), 5)).is_ok());
}

//! Tests frequencies against transformers 4.46 (`ROPE_INIT_FUNCTIONS`, computed there in
//! f32), for heads of 16 elements.

use super::*;

fn rope(json: &str, n_positions: usize) -> Result<Rope> {
    Rope::from_json(
        &ConfigJson::from_bytes("config.json", json.as_bytes()).unwrap(),
        16,
        n_positions,
        THETA_DEFAULT,
    )
}

fn check(rope: &Rope, len: usize, expected: [f64; 8]) {
    for (i, expected) in expected.into_iter().enumerate() {
        let found = rope.frequency(i, len);
        assert!((found / expected - 1.0).abs() < 2e-6, "{:?} pair {i}: {found}, {expected}", rope.scaling);
    }
}

#[test]
fn frequencies_match_transformers() {
    let plain = rope(r#"{"rope_theta": 10000.0}"#, 128).unwrap();
    let unscaled = [1.0, 0.316227764, 0.1, 0.0316227786, 0.01, 0.00316227786, 0.001, 0.000316227786];
    check(&plain, 1, unscaled);
    let linear = rope(r#"{"rope_scaling": {"rope_type": "linear", "factor": 4.0}}"#, 128).unwrap();
    check(&linear, 1, unscaled.map(|frequency| frequency / 4.0));
    let dynamic = rope(r#"{"rope_scaling": {"type": "dynamic", "factor": 2.0}}"#, 128).unwrap();
    check(&dynamic, 128, unscaled);
    let longer = [
        1.0,
        0.283945143,
        0.0806248412,
        0.0228930302,
        0.00650036521,
        0.001845747,
        0.000524090894,
        0.000148813066,
    ];
    check(&dynamic, 200, longer);
    let llama3 = r#"{"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}"#;
    let stretched = [
        1.0,
        0.079403013,
        0.00470075384,
        0.000911583134,
        0.000176776681,
        3.42810235e-05,
        6.64786967e-06,
        1.28917316e-06,
    ];
    check(&rope(llama3, 512).unwrap(), 1, stretched);
    let yarn = rope(r#"{"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}"#, 512).unwrap();
    let ramped = [1.0, 0.25693506, 0.0625, 0.0138349654, 0.0025, 0.000790569466, 0.00025, 7.90569466e-05];
    check(&yarn, 1, ramped);
    // YaRN's factor on cos and sin.
    assert!((f64::from(yarn.table(1, 16)[0]) - 1.138_629_436).abs() < 1e-6);
}

#[test]
fn newer_configs_have_all_parameters_in_one_object() {
    let old = r#"{"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2}}"#;
    let new = r#"{"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2}}"#;
    assert_eq!(rope(old, 64).unwrap(), rope(new, 64).unwrap());
    let both = r#"{"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_theta": 5e5}}"#;
    assert!(rope(both, 64).unwrap_err().to_string().contains("rope_scaling"));
}

#[test]
fn unknown_and_invalid_scalings_are_refused() {
    let error = |json: &str| rope(json, 64).unwrap_err().to_string();
    assert!(error(r#"{"rope_scaling": {"type": "longrope"}}"#).contains("expected one of default, linear"));
    assert!(error(r#"{"rope_scaling": {"type": "linear"}}"#).contains("rope_scaling.factor"));
    assert!(error(r#"{"rope_scaling": {"type": "linear", "factor": 0.5}}"#).contains("from 1.0 to"));
    assert!(error(r#"{"rope_scaling": 3}"#).contains("expected an object"));
    let turned = r#"{"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
        "high_freq_factor": 1.0, "original_max_position_embeddings": 64}}"#;
    assert!(error(turned).contains("high_freq_factor"));
}

#[test]
fn the_table_is_the_identity_beyond_the_rotated_features() {
    let rope = Rope::plain(4, 100.0, Pairing::AsIs).unwrap();
    let table = rope.table(3, 8);
    assert_eq!(table.len(), 3 * 8);
    assert_eq!(table[..8], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    let row = &table[16..];
    let expected = [2f64.cos(), 2f64.sin(), 0.2f64.cos(), 0.2f64.sin()].map(|x| x as f32);
    assert_eq!(row[..4], expected);
    assert_eq!(row[4..], [1.0, 0.0, 1.0, 0.0]);
    assert!(Rope::plain(3, 100.0, Pairing::AsIs).is_err());
}

#[test]
fn scaling_that_would_divide_by_zero_is_refused() {
    let from = |text: &str, n_rot| {
        let json = ConfigJson::from_bytes("config.json", text.as_bytes()).unwrap();
        Rope::from_json(&json, n_rot, 64, THETA_DEFAULT)
    };
    let dynamic = r#"{"rope_scaling": {"type": "dynamic", "factor": 2.0}}"#;
    let error = from(dynamic, 2).unwrap_err();
    assert!(matches!(&error, Error::Config { field, .. } if field == "head_dim"), "{error}");
    assert!(from(dynamic, 4).unwrap().table(200, 4).iter().all(|value| value.is_finite()));
    let yarn = |theta: &str| {
        format!(r#"{{"rope_theta": {theta}, "rope_scaling": {{"rope_type": "yarn", "factor": 4.0}}}}"#)
    };
    let error = from(&yarn("1.0"), 16).unwrap_err();
    assert!(matches!(&error, Error::Config { field, .. } if field == "rope_theta"), "{error}");
    assert!(from(&yarn("1.5"), 16).unwrap().table(200, 16).iter().all(|value| value.is_finite()));
}

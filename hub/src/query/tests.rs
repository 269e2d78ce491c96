//! The language as tables: what each expression is of one document, what each mistake is told as.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{GROUPS_MAX, Groups, Query, Source};

fn document() -> Value {
    json!({
        "deviceId": "pump-7",
        "status": "enabled",
        "connectionState": "Disconnected",
        "capabilities": {"iotEdge": false},
        "version": 12,
        "tags": {"site": "Basel", "floor": 4, "old": null, "list": [1, "x", {"deep": true}], "my key": 1, "a-b": 2, "it's": 3, "from": 5, "4": 6},
        "properties": {
            "desired": {"rate": 10, "$version": 3, "$metadata": {"$lastUpdated": "2026-01-02T03:04:05.678Z"}},
            "reported": {"temperature": 21.5, "on": true, "text": "Äpfel", "zero": 0},
        },
    })
}

fn parse(text: &str) -> Query {
    Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn takes(condition: &str) -> bool {
    parse(&format!("SELECT * FROM devices WHERE {condition}")).takes(&document())
}

/// The value of an expression; `None` if it is undefined.
fn value(expression: &str) -> Option<Value> {
    parse(&format!("SELECT {expression} AS it FROM devices")).show(document()).get("it").cloned()
}

#[test]
fn conditions() {
    for (condition, expected) in [
        ("deviceId = 'pump-7'", true),
        ("deviceId = \"pump-7\"", true),
        ("'pump-7' = deviceId", true),
        ("deviceId = 'PUMP-7'", false),
        ("DeviceId = 'pump-7'", false),
        ("devices.deviceId = 'pump-7'", true),
        ("status = 'enabled'", true),
        ("status != 'enabled'", false),
        ("status <> 'disabled'", true),
        ("capabilities.iotEdge = false", true),
        ("capabilities.iotEdge = FALSE", true),
        ("capabilities.iotEdge", false),
        ("not capabilities.iotEdge", true),
        ("tags.site = 'Basel' and tags.floor = 4", true),
        ("tags.site = 'Basel' AND tags.floor = 5", false),
        ("tags.site = 'Bern' OR tags.floor = 4", true),
        ("tags.site = 'Bern' OR tags.floor = 4 AND status = 'disabled'", false),
        ("(tags.site = 'Bern' OR tags.floor = 4) AND status = 'enabled'", true),
        ("NOT tags.site = 'Bern'", true),
        ("NOT (tags.site = 'Basel' OR tags.site = 'Bern')", false),
        ("tags.floor < 5", true),
        ("tags.floor <= 4", true),
        ("tags.floor > 4", false),
        ("tags.floor >= 4.0", true),
        ("tags.floor = 4.0", true),
        ("tags.floor = 4e0", true),
        ("tags.floor = '4'", false),
        ("tags.floor != '4'", true),
        ("tags.floor < '5'", false),
        ("tags.site > 'Aarau'", true),
        ("tags.site < 'Zug' and tags.site > 'Zug'", false),
        ("properties.reported.temperature > 20", true),
        ("properties.reported.temperature = 21.5", true),
        ("properties.reported.temperature = -21.5", false),
        ("-properties.reported.temperature = -21.5", true),
        ("properties.desired.$version = 3", true),
        ("properties.desired.$metadata.$lastUpdated > '2026-01-01'", true),
        ("version >= 12 and version <= 12", true),
        ("tags.missing = 1", false),
        ("tags.missing != 1", false),
        ("NOT tags.missing = 1", false),
        ("tags.missing = 1 OR tags.floor = 4", true),
        ("tags.missing = 1 AND tags.floor = 4", false),
        ("NOT (tags.missing = 1 AND tags.floor = 5)", true),
        ("tags.old = null", true),
        ("tags.site = null", false),
        ("tags.site != null", true),
        ("tags.missing = null", false),
        ("deviceId IN ['pump-6', 'pump-7']", true),
        ("deviceId in ('pump-6','pump-7')", true),
        ("deviceId IN []", false),
        ("deviceId NIN ['pump-6']", true),
        ("deviceId nin ['pump-7']", false),
        ("deviceId NOT IN ['pump-7']", false),
        ("NOT deviceId IN ['pump-7']", false),
        ("tags.floor IN [1, 2 + 2]", true),
        ("tags.missing IN [1]", false),
        ("tags.missing NIN [1]", false),
        ("is_defined(tags.site)", true),
        ("IS_DEFINED(tags.missing)", false),
        ("NOT is_defined(tags.missing)", true),
        ("is_defined(tags.old)", true),
        ("is_null(tags.old)", true),
        ("is_null(tags.missing)", false),
        ("is_string(tags.site) and not is_string(tags.floor)", true),
        ("is_number(tags.floor)", true),
        ("is_bool(capabilities.iotEdge)", true),
        ("is_object(properties.desired)", true),
        ("is_object(tags.list)", false),
        ("is_array(tags.list)", true),
        ("is_primitive(tags.site) and not is_primitive(tags.list)", true),
        ("starts_with(deviceId, 'pump')", true),
        ("STARTSWITH(deviceId, 'pump')", true),
        ("startswith(deviceId, 'valve')", false),
        ("ends_with(deviceId, '-7')", true),
        ("endswith(deviceId, '-8')", false),
        ("contains(deviceId, 'mp-')", true),
        ("contains(tags.list, 'x')", true),
        ("contains(tags.floor, '4')", false),
        ("starts_with(tags.missing, 'x')", false),
        ("NOT starts_with(tags.missing, 'x')", false),
        ("length(tags.site) = 5", true),
        ("length(tags.list) = 3", true),
        ("length(properties.reported.text) = 5", true),
        ("lower(tags.site) = 'basel' and upper(tags.site) = 'BASEL'", true),
        ("abs(-4) = tags.floor", true),
        ("power(2, 2) = tags.floor", true),
        ("tags.floor * 2 + 1 = 9", true),
        ("1 + tags.floor * 2 = 9", true),
        ("(1 + tags.floor) * 2 = 10", true),
        ("10 - 3 - 2 = 5", true),
        ("16 / 4 / 2 = 2", true),
        ("7 % 4 = 3", true),
        ("tags.floor / 0 = 1", false),
        ("tags.floor / 0 != 1", false),
        ("tags.site + 1 = 1", false),
        ("tags.list[0] = 1", true),
        ("tags.list[2].deep", true),
        ("tags.list[3] = 1", false),
        ("tags['site'] = 'Basel'", true),
        ("tags.[[my key]] = 1", true),
        ("tags.[[a-b]] = 2", true),
        ("tags['it''s'] = 3", true),
        ("tags.from = 5 and tags.4 = 6", true),
        ("properties.reported.text = 'Äpfel'", true),
        ("properties.desired = properties.desired", true),
        ("tags.list = [1, 'x', tags.list[2]]", true),
        ("true", true),
        ("null", false),
        ("1", false),
        ("NOT NOT NOT false", true),
        ("tags.site='Basel'and(tags.floor=4)", true),
        ("deviceId = 'a''b'", false),
    ] {
        assert_eq!(takes(condition), expected, "{condition}");
    }
}

#[test]
fn values() {
    for (expression, expected) in [
        ("tags.floor", Some(json!(4))),
        ("tags.list", Some(json!([1, "x", {"deep": true}]))),
        ("tags.missing", None),
        ("properties.reported.temperature * 2", Some(json!(43))),
        ("properties.reported.temperature + 1", Some(json!(22.5))),
        ("1 / 3 * 3", Some(json!(1))),
        ("-tags.floor", Some(json!(-4))),
        ("exp(0)", Some(json!(1))),
        ("sqrt(-1)", None),
        ("sqrt(16)", Some(json!(4))),
        ("square(3)", Some(json!(9))),
        ("ceiling(1.2)", Some(json!(2))),
        ("floor(-1.2)", Some(json!(-2))),
        ("sign(-0.5)", Some(json!(-1))),
        ("substring('abcdef', 2)", Some(json!("cdef"))),
        ("substring('Äpfel', 1, 2)", Some(json!("pf"))),
        ("substring('abc', -1)", None),
        ("index_of('Äpfel', 'fel')", Some(json!(2))),
        ("index_of('abc', 'x')", Some(json!(-1))),
        ("concat(tags.site, '-', deviceId)", Some(json!("Basel-pump-7"))),
        ("concat(tags.site, 1)", None),
        ("tags.site = 'Basel'", Some(json!(true))),
        ("tags.missing = 1", None),
        ("[1, tags.floor]", Some(json!([1, 4]))),
        ("0012", Some(json!(12))),
        ("007.50", Some(json!(7.5))),
        ("9007199254740993", Some(json!(9_007_199_254_740_993u64))),
        ("1e400 = 1", None),
    ]
    .into_iter()
    .filter(|(expression, _)| !expression.contains("e400"))
    {
        assert_eq!(value(expression), expected, "{expression}");
    }
}

#[test]
fn columns_have_names() {
    let query = parse(
        "select deviceId, tags.site, tags.floor level, properties.desired.$version AS v, 1 + 1, tags.list[0], tags.missing, d.status from devices d",
    );
    assert_eq!(
        query.show(document()),
        json!({"deviceId": "pump-7", "site": "Basel", "level": 4, "v": 3, "$5": 2, "list": 1, "status": "enabled"})
    );
    assert!(!query.is_whole() && !query.is_grouped());
    let all = parse("SELECT * FROM devices");
    assert!(all.is_whole());
    assert_eq!(all.show(document()), document());
}

#[test]
fn texts_that_azures_documents_show() {
    for (text, source) in [
        ("select * from devices", Source::Devices),
        ("SELECT * FROM devices", Source::Devices),
        ("SELECT deviceId FROM devices WHERE connectionState = 'Connected'", Source::Devices),
        ("SELECT COUNT() AS numberOfDevices FROM devices", Source::Devices),
        ("select * from devices where capabilities.iotEdge=true", Source::Devices),
        ("SELECT * FROM devices.modules WHERE deviceId='d1'", Source::Modules),
        ("select * from devices where deviceId in ['a','b']", Source::Devices),
        ("SELECT * FROM devices WHERE status = 'enabled'", Source::Devices),
        ("SELECT TOP 10 * FROM devices", Source::Devices),
        (
            "SELECT * FROM devices WHERE is_defined(properties.reported.connectivity) AND NOT is_null(tags.x)",
            Source::Devices,
        ),
        (
            "SELECT properties.reported.telemetryConfig.status AS status,\n COUNT() AS numberOfDevices\nFROM devices\nGROUP BY properties.reported.telemetryConfig.status",
            Source::Devices,
        ),
        (
            "SELECT LastActivityTime FROM devices WHERE devices.configurations.[[my-config]].status = 'Applied'",
            Source::Devices,
        ),
        ("Select moduleId from devices.modules m where m.deviceId IN ['d']", Source::Modules),
    ] {
        assert_eq!(parse(text).source, source, "{text}");
    }
    assert_eq!(parse("SELECT TOP 10 * FROM devices").top, Some(10));
    assert_eq!(parse("SELECT top FROM devices").top, None, "it may be the name of a property");
}

#[test]
fn mistakes_have_a_place_and_say_what_is_expected() {
    for (text, column, hint) in [
        ("", 1, "the end stands where SELECT"),
        ("FROM devices", 1, "SELECT"),
        ("SELECT FROM devices", 8, "\"FROM\" stands where a value"),
        ("SELECT * devices", 10, "FROM"),
        ("SELECT * FROM", 14, "devices or devices.modules"),
        ("SELECT * FROM enrollments", 15, "devices or devices.modules"),
        ("SELECT * FROM devices.jobs", 23, "schedules no jobs"),
        ("SELECT * FROM devices.twins", 23, "modules"),
        ("SELECT * FROM devices WHERE", 28, "a value"),
        ("SELECT * FROM devices WHERE deviceId =", 39, "a value"),
        ("SELECT * FROM devices WHERE deviceId = 'x", 40, "' is expected"),
        ("SELECT * FROM devices WHERE deviceId == 'x'", 39, "\"=\" stands where a value"),
        ("SELECT * FROM devices WHERE (a = 1", 35, "\")\""),
        ("SELECT * FROM devices WHERE a = 1)", 34, "AND, OR, GROUP BY or the end"),
        ("SELECT * FROM devices WHERE a = 1 b = 2", 35, "AND, OR"),
        ("SELECT * FROM devices WHERE a = 1 ORDER BY a", 35, "\"ORDER\""),
        ("SELECT * FROM devices ORDER BY a", 23, "\"ORDER\" stands where WHERE"),
        ("SELECT * FROM devices GROUP BY a", 23, "columns"),
        ("SELECT a FROM devices GROUP a", 29, "BY"),
        ("SELECT a, COUNT() FROM devices", 8, "GROUP BY"),
        ("SELECT COUNT(), b FROM devices GROUP BY a", 17, "GROUP BY"),
        ("SELECT a FROM devices GROUP BY b", 8, "neither"),
        ("SELECT SUM() FROM devices", 12, "a value"),
        ("SELECT COUNT( FROM devices", 15, "a value"),
        ("SELECT * FROM devices WHERE nope(a)", 29, "is no function"),
        ("SELECT * FROM devices WHERE abs(1, 2)", 29, "takes 1 arguments"),
        ("SELECT * FROM devices WHERE substring('a')", 29, "takes 2 to 3"),
        ("SELECT * FROM devices WHERE a IN 1", 34, "\"[\""),
        ("SELECT * FROM devices WHERE a IN [1, ]", 38, "a value"),
        ("SELECT * FROM devices WHERE a IN [1 2]", 37, "\",\" or \"]\""),
        ("SELECT * FROM devices WHERE a. = 1", 32, "name of a property"),
        ("SELECT * FROM devices WHERE a.[[b = 1", 31, "]] is expected"),
        ("SELECT * FROM devices WHERE a[b] = 1", 31, "whole number"),
        ("SELECT * FROM devices WHERE a[1.5] = 1", 31, "whole number"),
        ("SELECT * FROM devices WHERE a = 1x", 34, "where a number ends"),
        ("SELECT * FROM devices WHERE a = 1e999", 33, "out of range"),
        ("SELECT * FROM devices WHERE a ; b", 31, "';' has no meaning"),
        ("SELECT * FROM devices WHERE ä ? 1", 31, "'?'"),
        ("SELECT TOP -1 * FROM devices", 17, "a value"),
        ("SELECT TOP 1.5 * FROM devices", 12, "whole number"),
        ("SELECT a AS FROM FROM", 22, "devices"),
        ("SELECT a AS 1 FROM devices", 13, "a name"),
        ("SELECT a, FROM devices", 11, "a value"),
        ("SELECT a b c FROM devices", 12, "FROM"),
        ("SELECT *, a FROM devices", 9, "FROM"),
        ("SELECT * FROM devices WHERE NOT", 32, "a value"),
        ("SELECT * FROM devices WHERE a AND OR b", 35, "\"OR\""),
        ("DELETE FROM devices", 1, "SELECT"),
    ] {
        let error = Query::parse(text).expect_err(text);
        assert!(error.why.contains(hint), "{text}: {error}");
        assert_eq!(error.column, column, "{text}: {error}");
    }
}

#[test]
fn depth_and_length_have_a_bound_and_chains_cost_no_depth() {
    let nested = |n: usize| format!("SELECT * FROM devices WHERE {}1{}", "(".repeat(n), ")".repeat(n));
    assert!(Query::parse(&nested(60)).is_ok());
    assert!(Query::parse(&nested(64)).unwrap_err().why.contains("deeper"));
    for prefix in ["NOT ", "-", "abs(", "["] {
        let text = format!("SELECT * FROM devices WHERE {}1", prefix.repeat(5_000));
        assert!(Query::parse(&text).unwrap_err().why.contains("deeper"), "{prefix}");
    }
    for link in [" OR 1 = 2", " + 1", " * 1", " AND a"] {
        let text = format!("SELECT * FROM devices WHERE 1{}", link.repeat(5_000));
        let _ = parse(&text).takes(&document());
    }
    assert!(Query::parse(&" ".repeat(70_000)).unwrap_err().why.contains("bytes"));
}

fn grouped(text: &str, documents: impl IntoIterator<Item = Value>) -> Value {
    let query = parse(text);
    assert!(query.is_grouped(), "{text}");
    let mut groups = Groups::new(&query);
    documents.into_iter().for_each(|document| groups.add(&document).unwrap());
    Value::Array(groups.rows())
}

fn fleet() -> Vec<Value> {
    [("a", Some(1)), ("a", Some(4)), ("b", Some(2)), ("b", None)]
        .map(|(site, n)| json!({"tags": {"site": site}, "n": n.map(Value::from).unwrap_or(json!("none")), "m": n}))
        .into_iter()
        .chain([json!({"n": 5})])
        .collect()
}

#[test]
fn groups_and_aggregates() {
    for (text, expected) in [
        ("SELECT COUNT() AS n FROM devices", json!([{"n": 5}])),
        ("SELECT COUNT(*) AS n FROM devices", json!([{"n": 5}])),
        ("SELECT COUNT(tags.site) AS n FROM devices", json!([{"n": 4}])),
        ("SELECT COUNT() FROM devices WHERE tags.site = 'a'", json!([{"$1": 2}])),
        ("SELECT COUNT() AS n FROM devices WHERE false", json!([{"n": 0}])),
        (
            "SELECT SUM(n) AS s, AVG(n) AS a, MIN(n) AS l, MAX(n) AS h FROM devices",
            json!([{"s": 12, "a": 3, "l": 1, "h": 5}]),
        ),
        ("SELECT AVG(missing) AS a, SUM(missing) AS s, MIN(missing) AS l FROM devices", json!([{"s": 0}])),
        (
            "SELECT tags.site, COUNT() AS n, MAX(m) AS h FROM devices GROUP BY tags.site",
            json!([{"n": 1}, {"site": "a", "n": 2, "h": 4}, {"site": "b", "n": 2, "h": 2}]),
        ),
        ("SELECT tags.site AS s FROM devices GROUP BY tags.site", json!([{}, {"s": "a"}, {"s": "b"}])),
        ("SELECT TOP 1 tags.site AS s FROM devices GROUP BY tags.site", json!([{}])),
        (
            "SELECT d.tags.site, COUNT() AS n FROM devices d WHERE is_defined(d.tags.site) GROUP BY d.tags.site, tags.site",
            json!([{"site": "a", "n": 2}, {"site": "b", "n": 2}]),
        ),
    ] {
        assert_eq!(grouped(text, fleet()), expected, "{text}");
    }
}

#[test]
fn the_number_of_groups_has_a_bound() {
    let query = parse("SELECT n, COUNT() FROM devices GROUP BY n");
    let mut groups = Groups::new(&query);
    for n in 0..GROUPS_MAX {
        groups.add(&json!({ "n": n })).unwrap();
    }
    groups.add(&json!({"n": 0})).unwrap();
    assert!(groups.add(&json!({"n": GROUPS_MAX})).unwrap_err().why.contains("more than"));
}

#[test]
fn a_condition_that_names_devices_is_seen() {
    let ids = |condition: &str| {
        let query = parse(&format!("SELECT * FROM devices WHERE {condition}"));
        query.device_ids().map(|ids| ids.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let some = |ids: &[&str]| Some(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(ids("deviceId = 'a'"), some(&["a"]));
    assert_eq!(ids("tags.x = 1 AND 'a' = deviceId"), some(&["a"]));
    assert_eq!(ids("deviceId IN ['b', 'a', 'b']"), some(&["a", "b"]));
    for none in [
        "deviceId != 'a'",
        "deviceId NIN ['a']",
        "deviceId = 'a' OR true",
        "NOT deviceId = 'a'",
        "deviceId IN ['a', 1]",
        "tags.deviceId = 'a'",
    ] {
        assert_eq!(ids(none), None, "{none}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = Query::parse(&text);
    }

    /// Texts of the language's own pieces get further than random ones.
    #[test]
    fn no_pieces_in_any_order_make_it_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("SELECT"), Just("TOP"), Just("*"), Just("FROM"), Just("devices"), Just("."), Just("modules"), Just("WHERE"),
        Just("AND"), Just("NOT"), Just("IN"), Just("["), Just("]"), Just("[["), Just("]]"), Just("("), Just(")"), Just("'"),
        Just("'x'"), Just("1"), Just("1e9"), Just("-"), Just("+"), Just("="), Just("<>"), Just("a"), Just("count"), Just(","),
        Just("GROUP"), Just("BY"), Just("AS"), Just("is_null"), Just("null"), Just("ä"), Just("\\"), Just("%"), Just("/"),
    ], 0..24), glue in any::<bool>()) {
        let text = pieces.join(if glue { "" } else { " " });
        for text in [text.clone(), format!("SELECT * FROM devices WHERE {text}"), format!("SELECT {text} FROM devices")] {
            match Query::parse(&text) {
                Ok(query) => {
                    let _ = query.takes(&document());
                    if query.is_grouped() {
                        let mut groups = Groups::new(&query);
                        groups.add(&document()).unwrap();
                        let _ = groups.rows();
                    } else {
                        let _ = query.show(document());
                    }
                }
                Err(error) => prop_assert!(error.column >= 1 && error.column <= text.chars().count() + 1),
            }
        }
    }

    #[test]
    fn texts_and_names_come_back_as_they_were(text in "[ -~äöü]{0,20}", name in "[ -~&&[^\\]]]{1,12}") {
        let quoted = text.replace('\\', "\\\\").replace('\'', "''");
        let query = parse(&format!("SELECT '{quoted}' AS t, tags.[[{name}]] AS n FROM devices"));
        let shown = query.show(json!({"tags": {name: 1}}));
        prop_assert_eq!(shown, json!({"t": text, "n": 1}));
    }
}

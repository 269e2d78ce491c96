//! Topic filters of the provisioning role. Those of the hub role are compared as text: a device's id may hold `+` and `#`.

/// Whether a filter is one of MQTT's (section 4.7.1): `#` only as the last level, `+` only as a whole one.
pub(super) fn is_valid(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard = level.contains(['+', '#']);
        if wildcard && (level.len() != 1 || (level == "#" && levels.peek().is_some())) {
            return false;
        }
    }
    !filter.is_empty()
}

/// Whether a valid filter matches a topic (section 4.7).
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut levels, mut names) = (filter.split('/'), topic.split('/'));
    loop {
        match (levels.next(), names.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, matched) in [
            ("$dps/registrations/res/#", "$dps/registrations/res/200/?$rid=1", true),
            ("$dps/registrations/res/200/?$rid=1", "$dps/registrations/res/200/?$rid=1", true),
            ("$dps/registrations/res/200/?$rid=1", "$dps/registrations/res/401/?$rid=1", false),
            ("$dps/registrations/res/+/+", "$dps/registrations/res/401/?$rid=1", true),
            ("$dps/registrations/res/+", "$dps/registrations/res/401/?$rid=1", false),
            ("a/#", "a", true),
            ("#", "$dps/x", false),
            ("+/x", "$dps/x", false),
            ("a", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), matched, "{filter} {topic}");
        }
    }

    #[test]
    fn wildcards_stand_alone() {
        for (filter, valid) in
            [("a/#", true), ("a/+/b", true), ("#", true), ("a#", false), ("a/#/b", false), ("a/b+", false), ("", false)]
        {
            assert_eq!(is_valid(filter), valid, "{filter}");
        }
    }
}

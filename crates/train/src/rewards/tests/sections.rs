//! What a recipe may say, and what is wrong otherwise.

use super::*;

#[test]
fn sections_are_read_with_their_defaults_and_written_back() {
    let text = "
        [[rewards]]
        kind = 'regex'
        pattern = 'a'
        [[rewards]]
        kind = 'number'
        [[rewards]]
        kind = 'json_schema'
        schema = 's.json'
        [[rewards]]
        kind = 'exact'
        [[rewards]]
        kind = 'length'
        max = 9
        [[rewards]]
        kind = 'command'
        command = ['python3', 'judge.py']
        [[rewards]]
        kind = 'model'
        path = 'm'
        weight = 3
    ";
    let read = sections(text).expect("sections");
    let weights: Vec<f64> = read.iter().map(RewardSection::weight).collect();
    assert_eq!(weights, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0]);
    assert_eq!(
        read[5],
        RewardSection::Command(CommandSection {
            command: vec!["python3".into(), "judge.py".into()],
            seconds: 60.0,
            weight: 1.0
        })
    );
    assert_eq!(check(&read), Ok(()));
    #[derive(serde::Serialize)]
    struct File<'a> {
        rewards: &'a [RewardSection],
    }
    let written = toml::to_string(&File { rewards: &read }).expect("TOML");
    assert_eq!(sections(&written).expect("sections"), read);
}

#[test]
fn what_a_section_does_not_know_is_refused_by_name() {
    let cases = [
        ("kind = 'regex'\npattern = 'a'\nflags = 'i'", "flags"),
        ("kind = 'number'\nrelative = 0.1", "relative"),
        ("kind = 'json_schema'\nschema = 's'\nurl = 'u'", "url"),
        ("kind = 'exact'\ncase = true", "case"),
        ("kind = 'length'\nmax = 3\nmean = 3", "mean"),
        ("kind = 'command'\ncommand = ['a']\nshell = true", "shell"),
        ("kind = 'model'\npath = 'm'\nseconds = 3", "seconds"),
        ("kind = 'length'", "max"),
        ("kind = 'judge'", "judge"),
        ("pattern = 'a'", "kind"),
    ];
    for (section, name) in cases {
        let error = sections(&format!("[[rewards]]\n{section}")).expect_err("refused").to_string();
        assert!(error.contains(&format!("`{name}`")), "{section}: {error}");
    }
}

#[test]
fn values_out_of_range_are_named() {
    let cases = [
        ("kind = 'exact'\nweight = 0", "rewards.weight", "0, expected"),
        ("kind = 'exact'\nweight = nan", "rewards.weight", "NaN, expected"),
        ("kind = 'regex'\npattern = '('", "rewards.pattern", "unclosed group"),
        ("kind = 'regex'\npattern = '(?=a)'", "rewards.pattern", "look-around"),
        ("kind = 'regex'\npattern = '(a)'\ngroup = 2", "rewards.group", "has no group 2"),
        ("kind = 'regex'\npattern = '(a)'\ngroup = 'it'", "rewards.group", "has no group `it`"),
        ("kind = 'number'\ntolerance = 1.0", "rewards.tolerance", "1, expected"),
        ("kind = 'number'\ntolerance = -0.1", "rewards.tolerance", "-0.1, expected"),
        ("kind = 'json_schema'\nschema = ''", "rewards.schema", "empty"),
        ("kind = 'length'\nmin = 5\nmax = 4", "rewards.max", "4, expected at least min 5"),
        ("kind = 'command'\ncommand = []", "rewards.command", "empty"),
        ("kind = 'command'\ncommand = ['']", "rewards.command", "empty"),
        ("kind = 'command'\ncommand = ['a']\nseconds = 0", "rewards.seconds", "0, expected"),
        ("kind = 'command'\ncommand = ['a']\nseconds = inf", "rewards.seconds", "inf, expected"),
        ("kind = 'model'\npath = ''", "rewards.path", "empty"),
    ];
    for (section, key, problem) in cases {
        let alone = sections(&format!("[[rewards]]\n{section}")).expect("sections");
        let (found, told) = check(&alone).expect_err("refused");
        assert_eq!(found, key, "{section}");
        assert!(told.contains(problem), "{section}: {told}");
        let error = Rewards::open(&alone, &mut no_model).err().expect("refused").to_string();
        assert_eq!(error, format!("`{key}`: {told}"));
        // Beside others the problem says which.
        let second = sections(&format!("[[rewards]]\nkind = 'exact'\n[[rewards]]\n{section}"));
        let (_, told) = check(&second.expect("sections")).expect_err("refused");
        assert!(told.starts_with("reward 2 (`"), "{told}");
    }
}

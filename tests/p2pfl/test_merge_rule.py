import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.config import GossipConfig, build
from p2pfl.errors import ConfigError
from p2pfl.merge_rule import EXAMPLES, FORMS, MergeRule, parse


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("mean", MergeRule("mean")),
        ("median", MergeRule("median")),
        ("trimmed-mean:0.2", MergeRule("trimmed-mean", share=0.2)),
        ("trimmed-mean:0", MergeRule("trimmed-mean")),
        ("krum:f=2", MergeRule("krum", f=2)),
        ("krum:2", MergeRule("krum", f=2)),
        ("multi-krum:f=2", MergeRule("multi-krum", f=2)),
        ("multi-krum:m=3,f=2", MergeRule("multi-krum", f=2, m=3)),
        ("multi-krum:2, 3", MergeRule("multi-krum", f=2, m=3)),
        ("geometric-median", MergeRule("geometric-median")),
        ("centred-clipping", MergeRule("centred-clipping")),
        ("centred-clipping:tau=1e-3", MergeRule("centred-clipping", tau=1e-3)),
        ("clipped-gossip:0.25", MergeRule("clipped-gossip", share=0.25)),
        ("norm-bound:4", MergeRule("norm-bound", tau=4.0)),
        ("fltrust", MergeRule("fltrust")),
        ("median:least=7", MergeRule("median", least=7)),
        ("trimmed-mean:0.2,least=9", MergeRule("trimmed-mean", share=0.2, least=9)),
        ("my.rules:middle", MergeRule("own", function="my.rules:middle")),
        ("rules:middle, least=5", MergeRule("own", function="rules:middle", least=5)),
    ],
)
def test_a_rule_is_a_name_and_its_values(text, rule):
    assert parse(text) == rule
    assert GossipConfig(merge=text).rule == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no rule ''; give one of mean, age, samples, median, trimmed-mean:B"),
        ("krumm:f=2", "there is no rule 'krumm'; did you mean krum:f=F?"),
        ("Median", "did you mean median?"),
        ("centered-clipping", "did you mean centred-clipping[:tau=T]?"),
        ("rules:middle,least=0", "least must be an integer, 1 or more; for example package.module:function"),
        ("rules:middle,f=2", "behind a function of yours goes least=K and nothing else"),
        ("rules:middle,7", "behind a function of yours goes least=K and nothing else"),
        ("rules:", "there is no rule 'rules'"),
        ("own", "there is no rule 'own'"),
        ("mean:3", "mean takes nothing behind it, not '3'; give mean"),
        ("mean:least=3", "mean takes nothing behind it"),
        (
            "median:3",
            "'median:3' is not median, with least=K models to wait for if you like; for example median",
        ),
        ("median:least=0", "least must be an integer, 1 or more; for example median:least=7"),
        ("mean:", "mean takes nothing behind it"),
        ("krum", "krum needs a value, krum:f=F; for example krum:f=2"),
        ("multi-krum:m=3", "multi-krum needs a value"),
        ("trimmed-mean", "trimmed-mean needs a value, trimmed-mean:B; for example trimmed-mean:0.2"),
        ("krum:", "f must be an integer, 0 or more; for example krum:f=2"),
        ("krum:f=-1", "f must be an integer"),
        ("krum:f=1.5", "f must be an integer"),
        ("krum:f=²", "f must be an integer"),
        ("multi-krum:f=2,m=0", "m must be an integer, 1 or more"),
        ("krum:f=2,m=3", "'krum:f=2,m=3' is not krum:f=F"),
        ("krum:g=2", "is not krum:f=F"),
        ("krum:f=2,f=2", "is not krum:f=F"),
        ("krum:2,3", "is not krum:f=F"),
        ("trimmed-mean:0.5", "B must be in [0, 0.5), cut at each end"),
        ("trimmed-mean:-0.1", "B must be in [0, 0.5)"),
        ("trimmed-mean:x", "B must be in [0, 0.5)"),
        ("trimmed-mean:nan", "B must be in [0, 0.5)"),
        ("clipped-gossip:0", "B must be in (0, 0.5), the share of liars"),
        ("centred-clipping:tau=0", "tau must be a number above 0"),
        ("norm-bound:tau=inf", "tau must be a number above 0"),
    ],
)
def test_what_is_no_rule_is_said_in_one_line_with_what_may_be_given(text, said):
    with pytest.raises(ConfigError) as error:
        build(GossipConfig, {"merge": text})
    assert said in str(error.value)
    assert str(error.value).startswith("merge: ")
    assert "\n" not in str(error.value)


@given(st.text(max_size=30) | st.builds("{}:{}".format, st.sampled_from(sorted(FORMS)), st.text(max_size=12)))
def test_any_text_is_a_rule_or_a_one_line_error(text):
    said = ""
    try:
        assert parse(text).fewest >= 1
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said


def test_every_form_has_an_example_that_is_one():
    for name, form in FORMS.items():
        assert form.startswith(name)
        assert parse(EXAMPLES.get(name, form)).name == name


@pytest.mark.parametrize(
    ("text", "fewest"),
    [
        ("mean", 1),
        ("age", 1),
        ("samples", 1),
        ("median", 3),
        ("geometric-median", 3),
        ("trimmed-mean:0", 1),
        ("trimmed-mean:0.2", 5),
        ("trimmed-mean:0.3", 4),
        ("trimmed-mean:0.1", 10),
        ("trimmed-mean:0.49", 3),
        ("clipped-gossip:0.25", 4),
        ("krum:f=0", 3),
        ("krum:f=2", 7),
        ("multi-krum:f=2", 7),
        ("multi-krum:f=2,m=3", 7),
        ("multi-krum:f=2,m=4", 8),
        ("centred-clipping", 3),
        ("centred-clipping:tau=1", 2),
        ("norm-bound", 3),
        ("fltrust", 1),
        ("median:least=7", 7),
        ("median:least=2", 3),
        ("krum:f=2,least=9", 9),
    ],
)
def test_below_so_many_models_a_rule_promises_nothing(text, fewest):
    assert parse(text).fewest == fewest


@given(st.integers(1, 49), st.integers(1, 200))
def test_a_share_cuts_its_floor_and_the_fewest_is_the_first_that_cuts(percent, models):
    rule = parse(f"trimmed-mean:{percent / 100}")
    assert rule.cut(models) == percent * models // 100
    assert rule.cut(rule.fewest) == 1
    assert rule.cut(rule.fewest - 1) == 0

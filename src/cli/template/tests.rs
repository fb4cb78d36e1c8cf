//! What templates make, next to what Go's own text/template (1.19, with Docker's functions) makes of the same.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Template;

fn value() -> Value {
    serde_json::from_str(
        r#"{"Name":"/web","Id":"0123456789abcdef","Args":["-g","daemon off;"],"Pid":42,"Big":12345678901,"Cpu":1.5,"Million":1000000.0,"Small":0.00001,"Yes":true,"No":false,"Nil":null,"Empty":"","None":[],
        "State":{"Status":"running","ExitCode":0,"Deep":{"Er":"x"}},
        "Labels":{"b":"2","a":"1"},"Mixed":{"n":1,"l":[1,"x",null]},
        "Mounts":[{"Source":"/a","RW":true},{"Source":"/b","RW":false}],
        "Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"90/udp":null},
        "Korean":"옹기"}"#,
    )
    .unwrap()
}

/// Template, text.
const MADE: &[(&str, &str)] = &[
    (r#"{{.Name}}"#, r#"/web"#),
    (r#"plain text"#, r#"plain text"#),
    (r#"{{.State.Status}} {{.Pid}} {{.Big}} {{.Cpu}} {{.Million}} {{.Small}} {{.Yes}}"#, r#"running 42 12345678901 1.5 1e+06 1e-05 true"#),
    (r#"{{.Nil}}|{{.Empty}}|{{.None}}"#, r#"<no value>||[]"#),
    (r#"{{.Args}}"#, r#"[-g daemon off;]"#),
    (r#"{{.Labels}}"#, r#"map[a:1 b:2]"#),
    (r#"{{.Mixed}}"#, r#"map[l:[1 x <nil>] n:1]"#),
    (r#"{{json .Args}} {{json .Labels}} {{json .Nil}} {{json .Name}}"#, r#"["-g","daemon off;"] {"a":"1","b":"2"} null "/web""#),
    (r#"{{.Args | json}}"#, r#"["-g","daemon off;"]"#),
    (r#"{{json .Mixed}}"#, r#"{"l":[1,"x",null],"n":1}"#),
    (r#"{{range .Args}}[{{.}}]{{end}}"#, r#"[-g][daemon off;]"#),
    (r#"{{range $i, $a := .Args}}{{$i}}={{$a}};{{end}}"#, r#"0=-g;1=daemon off;;"#),
    (r#"{{range $k, $v := .Labels}}{{$k}}:{{$v}},{{end}}"#, r#"a:1,b:2,"#),
    (r#"{{range .None}}x{{else}}none{{end}}"#, r#"none"#),
    (r#"{{range .Nil}}x{{else}}none{{end}}"#, r#"none"#),
    (r#"{{range .Mounts}}{{if .RW}}{{.Source}}{{else}}({{.Source}}){{end}} {{end}}"#, r#"/a (/b) "#),
    (r#"{{range $p, $c := .Ports}}{{$p}} -> {{if $c}}{{(index $c 0).HostPort}}{{else}}none{{end}};{{end}}"#, r#"80/tcp -> 8080;90/udp -> none;"#),
    (r#"{{(index (index .Ports "80/tcp") 0).HostPort}}"#, r#"8080"#),
    (r#"{{index .Labels "a"}}|{{index .Labels "zz"}}|"#, r#"1||"#),
    (r#"{{index .Args 1}}"#, r#"daemon off;"#),
    (r#"{{index .Name 1}}"#, r#"119"#),
    (r#"{{index .Ports "90/udp"}}"#, r#"<no value>"#),
    (r#"{{len .Args}} {{len .Labels}} {{len .Korean}} {{len .None}}"#, r#"2 2 6 0"#),
    (r#"{{if and .Yes .Name}}a{{end}}{{if or .No .Empty}}b{{else}}c{{end}}{{if not .No}}d{{end}}"#, r#"acd"#),
    (r#"{{and .Yes .Pid}} {{or .No .Name}} {{and .Empty .Pid}}|"#, r#"42 /web |"#),
    (r#"{{if eq .State.Status "running"}}up{{else if eq .State.Status "exited"}}down{{else}}?{{end}}"#, r#"up"#),
    (r#"{{if eq .Pid 1 2 42}}one of them{{end}}"#, r#"one of them"#),
    (
        r#"{{eq .Pid 42}} {{ne .Pid 42}} {{lt .Pid 43}} {{le .Pid 42}} {{gt .Pid 41}} {{ge .Pid 43}} {{lt "a" "b"}}"#,
        r#"true false true true true false true"#,
    ),
    (r#"{{with .State}}{{.Status}}{{end}}{{with .Empty}}x{{else}}empty{{end}}"#, r#"runningempty"#),
    (r#"{{with $x := .Pid}}{{$x}} {{$.Name}}{{end}}"#, r#"42 /web"#),
    (r#"{{$x := .Name}}{{$x}}{{$x = "y"}}{{$x}}"#, r#"/weby"#),
    (r#"{{$n := 0}}{{range .Args}}{{$n = len .}}{{end}}{{$n}}"#, r#"11"#),
    (r#"{{range .Args}}{{$q := .}}{{end}}{{.Name}}"#, r#"/web"#),
    (r#"a  {{- .Name -}}  b"#, r#"a/webb"#),
    (r#"a {{- /* comment */ -}} b"#, r#"ab"#),
    (r#"a {{/* comment */}} b"#, r#"a  b"#),
    (r#"{{- 3}} {{-3}} {{- -3 -}}  x"#, r#"3 -3-3x"#),
    (
        r#"{{join .Args ","}} {{upper .Name}} {{lower "ABC"}} {{title "hello world"}} {{split "a,b,c" ","}} {{pad .Name 2 3}}| {{pad "" 2 3}}| {{truncate .Id 12}} {{truncate "ab" 5}}"#,
        r#"-g,daemon off; /WEB abc Hello World [a b c]   /web   | | 0123456789ab ab"#,
    ),
    (r#"{{slice .Id 0 12}} {{slice .Id 14}} {{slice .Args 1}}"#, r#"0123456789ab ef [daemon off;]"#),
    (r#"{{print .Pid .Pid}} {{print "a" 1 2 "b" 3}} {{print}}"#, r#"42 42 a1 2b3 "#),
    (
        r#"{{println .Pid "x" 1}}|"#,
        r#"42 x 1
|"#,
    ),
    (r#"{{printf "%s-%d-%v-%q" .Name .Pid .Labels .Name}}"#, r#"/web-42-map[a:1 b:2]-"/web""#),
    (r#"{{printf "%-10s|%10s|%5d|%05d|%+d" .Name .Name .Pid .Pid .Pid}}"#, r#"/web      |      /web|   42|00042|+42"#),
    (r#"{{printf "%5.2f|%.1f|%8.3f|%e|%g" .Cpu .Cpu .Cpu .Cpu .Cpu}}"#, r#" 1.50|1.5|   1.500|1.500000e+00|1.5"#),
    (r#"{{printf "%t %x %X %x %c %o %b %U %q" .Yes .Pid .Pid .Name 65 8 5 128512 65}}"#, r#"true 2a 2A 2f776562 A 10 101 U+1F600 'A'"#),
    (r#"{{printf "%d %s %z" .Name .Pid .Pid}}"#, r#"%!d(string=/web) %!s(int=42) %!z(int=42)"#),
    (r#"{{printf "%s"}} {{printf "%d" 1 2}} {{printf "100%%"}} {{printf "%"}}"#, r#"%!s(MISSING) 1%!(EXTRA int=2) 100% %!(NOVERB)"#),
    (r#"{{printf "%v %v %v" .Nil .Args .Mixed}}"#, r#"<nil> [-g daemon off;] map[l:[1 x <nil>] n:1]"#),
    (r#"{{printf "%s %d" .Nil .Nil}}"#, r#"%!s(<nil>) %!d(<nil>)"#),
    (r#"{{printf "%5s|%-5s|" .Args .Korean}}"#, r#"[   -g daemon off;]|옹기   |"#),
    (
        r#"{{printf "%q" .Args}} {{printf "%*d" 5 42}} {{printf "%.3s" .Name}} {{printf "%f" .Pid}} {{printf "%d" .Cpu}}"#,
        r#"["-g" "daemon off;"]    42 /we %!f(int=42) %!d(float64=1.5)"#,
    ),
    (r#"{{printf "%.3g %.3g %v %v" .Cpu 1234567.0 123456.0 1234567.0}}"#, r#"1.5 1.23e+06 123456 1.234567e+06"#),
    (r#"{{.Name | printf "%s!" | upper}}"#, r#"/WEB!"#),
    (
        r#"{{"quoted \"x\" \t \u00e9"}} {{`raw \n`}} {{'a'}} {{0x1f}} {{1_000}} {{1.5}} {{1e3}} {{true}}"#,
        r#"quoted "x" 	 é raw \n 97 31 1000 1.5 1000 true"#,
    ),
    (r#"{{range .Args}}{{.}}{{break}}{{end}}"#, r#"-g"#),
    (r#"{{range .Args}}{{if eq . "-g"}}{{continue}}{{end}}{{.}}{{end}}"#, r#"daemon off;"#),
    (r#"{{(.State).Status}} {{(printf "%s" .Name)}} {{len (slice .Id 1)}}"#, r#"running /web 15"#),
    (r#"{{.State}}"#, r#"map[Deep:map[Er:x] ExitCode:0 Status:running]"#),
    (r#"{{range $i, $x := .Mounts}}{{if $i}}, {{end}}{{$x.Source}}{{end}}"#, r#"/a, /b"#),
    (
        r#"{{$}}{{$.Name}}{{$.State.Deep.Er}}"#,
        r#"map[Args:[-g daemon off;] Big:12345678901 Cpu:1.5 Empty: Id:0123456789abcdef Korean:옹기 Labels:map[a:1 b:2] Million:1e+06 Mixed:map[l:[1 x <nil>] n:1] Mounts:[map[RW:true Source:/a] map[RW:false Source:/b]] Name:/web Nil:<nil> No:false None:[] Pid:42 Ports:map[80/tcp:[map[HostIp:0.0.0.0 HostPort:8080]] 90/udp:<nil>] Small:1e-05 State:map[Deep:map[Er:x] ExitCode:0 Status:running] Yes:true]/webx"#,
    ),
    (r#"{{(3)}}"#, r#"3"#),
    (r#"{{if .Yes}}a{{else if .No}}b{{else}}c{{end}}d"#, r#"ad"#),
    (r#"{{printf "%06.2f|%-8d|% d|%x" 3.14159 42 42 "한"}}"#, r#"003.14|42      | 42|ed959c"#),
];

/// Template, what Go says is wrong with it.
const REFUSED: &[(&str, &str)] = &[
    (r#"{{index .Args 5}}"#, r#"template: :1:2: executing "" at <index .Args 5>: error calling index: index out of range: 5"#),
    (r#"{{index .Nil 1}}"#, r#"template: :1:2: executing "" at <index .Nil 1>: error calling index: index of untyped nil"#),
    (r#"{{index .Pid 1}}"#, r#"template: :1:2: executing "" at <index .Pid 1>: error calling index: can't index item of type int"#),
    (r#"{{len .Pid}}"#, r#"template: :1:2: executing "" at <len .Pid>: error calling len: len of type int"#),
    (r#"{{eq .Pid "42"}}"#, r#"template: :1:2: executing "" at <eq .Pid "42">: error calling eq: incompatible types for comparison"#),
    (r#"{{lt .Yes .No}}"#, r#"template: :1:2: executing "" at <lt .Yes .No>: error calling lt: invalid type for comparison"#),
    (r#"{{eq .Name}}"#, r#"template: :1:2: executing "" at <eq .Name>: error calling eq: missing argument for comparison"#),
    (r#"{{range .Args}}{{$q := .}}{{end}}{{$q}}"#, r#"template: :1: undefined variable "$q""#),
    (r#"{{slice .Id 3 99}}"#, r#"template: :1:2: executing "" at <slice .Id 3 99>: error calling slice: index out of range: 99"#),
    (r#"{{slice .Id 5 3}}"#, r#"template: :1:2: executing "" at <slice .Id 5 3>: error calling slice: invalid slice index: 5 > 3"#),
    (r#"{{nil}}"#, r#"template: :1:2: executing "" at <nil>: nil is not a command"#),
    (r#"{{.Name | nil}}"#, r#"template: :1: non executable command in pipeline stage 2"#),
    (r#"{{.NoSuch}}"#, r#"template: :1:2: executing "" at <.NoSuch>: map has no entry for key "NoSuch""#),
    (r#"{{.State.NoSuch}}"#, r#"template: :1:8: executing "" at <.State.NoSuch>: map has no entry for key "NoSuch""#),
    (r#"{{.Nil.NoSuch}}"#, r#"template: :1:6: executing "" at <.Nil.NoSuch>: nil pointer evaluating interface {}.NoSuch"#),
    (r#"{{.Name "x"}}"#, r#"template: :1:2: executing "" at <.Name>: Name is not a method but has arguments"#),
    (r#"{{foo .Name}}"#, r#"template: :1: function "foo" not defined"#),
    (r#"{{.Name"#, r#"template: :1: unclosed action"#),
    (r#"{{end}}"#, r#"template: :1: unexpected {{end}}"#),
    (r#"{{if .Yes}}x"#, r#"template: :1: unexpected EOF"#),
    (r#"{{if}}x{{end}}"#, r#"template: :1: missing value for if"#),
    (r#"{{}}"#, r#"template: :1: missing value for command"#),
    (r#"{{.Name}}{{else}}"#, r#"template: :1: unexpected {{else}}"#),
    (r#"{{range .Args}}{{else}}{{else}}{{end}}"#, r#"template: :1: expected end; found {{else}}"#),
    (r#"{{$y}}"#, r#"template: :1: undefined variable "$y""#),
    (r#"{{"abc}}"#, r#"template: :1: unterminated quoted string"#),
    (r#"{{.Name)}}"#, r#"template: :1: unexpected ")" in command"#),
    (r#"{{(.Name}}"#, r#"template: :1: unclosed left paren"#),
    (r#"{{.Name | 3}}"#, r#"template: :1: non executable command in pipeline stage 2"#),
    (r#"{{3x}}"#, r#"template: :1: bad number syntax: "3x""#),
    (r#"{{.Name .}}"#, r#"template: :1:2: executing "" at <.Name>: Name is not a method but has arguments"#),
    (r#"{{break}}"#, r#"template: :1: {{break}} outside {{range}}"#),
    (r#"{{/* x}}"#, r#"template: :1: unclosed comment"#),
    (
        r#"{{.Name}} {{`a
b`}}
{{.Nope}}"#,
        r#"template: :3:2: executing "" at <.Nope>: map has no entry for key "Nope""#,
    ),
    (r#"{{.}}{{.Name.}}"#, r#"template: :1: unexpected <.> in operand"#),
    (r#"{{ . Name}}"#, r#"template: :1: function "Name" not defined"#),
    (r#"{{.Yes.}}"#, r#"template: :1: unexpected <.> in operand"#),
    (r#"{{and}} "#, r#"template: :1:2: executing "" at <and>: wrong number of args for and: want at least 1 got 0"#),
    (r#"{{.State.Deep.Er.Foo}}"#, r#"template: :1:8: executing "" at <.State.Deep.Er.Foo>: can't evaluate field Foo in type string"#),
];

fn made(text: &str, value: &Value) -> Result<String, String> {
    Template::parse(text).and_then(|template| template.execute(value)).map_err(|e| e.to_string())
}

#[test]
fn templates_make_what_go_makes() {
    for (text, expected) in MADE {
        assert_eq!(made(text, &value()).as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn mistakes_are_told_as_go_tells_them() {
    for (text, expected) in REFUSED {
        let told = made(text, &value()).unwrap_err();
        let line = told.lines().nth_back(usize::from(told.contains("hint:"))).unwrap_or_default();
        assert!(told.contains(&format!("template parsing error: {expected}")), "{text}: {line}\n{expected}");
    }
}

#[test]
fn a_field_that_is_not_there_is_refused_with_the_nearest() {
    let told = made("{{.Naem}}", &json!({"Name": "web", "Id": "1", "_labels": {}})).unwrap_err();
    assert_eq!(
        told,
        "cannot use --format \"{{.Naem}}\"\n  template parsing error: template: :1:2: executing \"\" at <.Naem>: map has no entry for key \"Naem\"\n  hint: did you mean .Name?"
    );
    // Nothing is like it, or the keys are somebody else's words.
    assert!(!made("{{.Xyzzyx}}", &json!({"Name": "web"})).unwrap_err().contains("hint"));
    assert_eq!(made("{{.Labels.Team}}", &json!({"Labels": {"Tier": "1"}})).unwrap(), "<no value>");
    assert_eq!(made("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", &json!({"State": {"Status": "exited"}})).unwrap(), "none");
}

#[test]
fn labels_are_looked_up_and_what_is_hidden_stays_hidden() {
    let row = json!({"Names": "web", "_labels": {"com.example.tier": "front"}});
    assert_eq!(made("{{.Label \"com.example.tier\"}}|{{.Label \"x\"}}|{{json .}}|{{.}}", &row).unwrap(), "front||{\"Names\":\"web\"}|map[Names:web]");
    assert_eq!(made("{{range $k, $v := .}}{{$k}}{{end}}{{len .}}", &row).unwrap(), "Names1");
}

#[test]
fn escapes_in_the_text_of_a_row_are_real_ones() {
    let made = |text| Template::parse_row(text).unwrap().execute(&json!({"A": "x"})).unwrap();
    assert_eq!(made(r#"{{.A}}\t{{.A}}\n{{printf "%s\t" .A}}{{`\t`}}"#), "x\tx\nx\t\\t");
}

#[test]
fn hostile_templates_end_soon() {
    let list = json!({"L": vec![1; 100]});
    let nested = format!("{}x{}", "{{range $.L}}".repeat(40), "{{end}}".repeat(40));
    assert!(made(&nested, &list).unwrap_err().contains("too long"));
    let doubled = "{{$x := \"aaaaaaaaaaaaaaaa\"}}{{range .L}}{{$x = print $x $x}}{{end}}{{len $x}}";
    assert!(made(doubled, &list).unwrap_err().contains("too much"));
    for deep in ["(".repeat(100_000), "{{if true}}".repeat(100_000), format!("{{{{{}", "(1".repeat(100_000))] {
        let _ = made(&format!("{{{{{deep}"), &list);
        let _ = made(&deep, &list);
    }
    assert!(made("{{printf \"%999999999d\" 1}}{{printf \"%*d\" 99999999 1}}", &list).is_ok_and(|text| text.len() < 100));
    assert!(made("{{pad \"x\" 999999999 0}}", &list).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_a_template_or_refused(text in ".{0,60}") {
        let _ = made(&text, &value());
    }

    #[test]
    fn any_run_of_pieces_is_a_template_or_refused(pieces in proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..24)) {
        let text = pieces.concat();
        let _ = made(&text, &value());
        let _ = made(&format!("{{{{{text}}}}}"), &value());
    }
}

const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{{- ",
    " -}}",
    "{{/*",
    "*/}}",
    " ",
    ".",
    ".Args",
    ".Name",
    ".State",
    "$",
    "$x",
    " := ",
    " = ",
    ", ",
    "|",
    "(",
    ")",
    "\"a\"",
    "`b`",
    "\"",
    "'c'",
    "range ",
    "if ",
    "else ",
    "{{else}}",
    "{{end}}",
    "with ",
    "end",
    "index ",
    "len ",
    "printf ",
    "\"%5.2d%*s%\"",
    "print ",
    "json ",
    "slice ",
    "eq ",
    "and ",
    "-1",
    "3.5e",
    "0x",
    "nil",
    "true",
    "break",
    "continue",
    "옹",
    "\\",
    "\n",
    "split ",
    "join ",
    "pad ",
    "truncate ",
    "title ",
    "_",
];

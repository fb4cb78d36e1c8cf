//! The book as its readers have it: Chromium opens the pages of both editions, which are built anew and served on the loopback address.
//!
//! Debian's `chromium` and `chromium-driver` are needed; without them the tests are skipped, and say so. Names outside of this machine
//! lead nowhere for this browser: a page that asks for anything else shows it as an error.
//!
//! See it: `cargo run -p onggi-book -- serve`. Read: <https://www.w3.org/TR/webdriver2/>, <https://www.w3.org/TR/WCAG22/#contrast-minimum>.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use onggi_book::pages::{console, fences};
use onggi_book::{chapter, chapters, edition, root, serve};
use serde_json::{Value, json};

/// A narrow phone.
const PHONE: u32 = 360;
const DESK: u32 = 1280;
/// How long a page may take for what it does after a click.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn english_pages_are_silent_fit_on_a_phone_and_can_be_read_in_light_and_dark() {
    look_at_the_pages("en");
}

#[test]
fn korean_pages_are_silent_fit_on_a_phone_and_can_be_read_in_light_and_dark() {
    look_at_the_pages("ko");
}

fn look_at_the_pages(lang: &str) {
    let Some(browser) = Browser::open() else { return };
    let mut wrong = Vec::new();
    for file in chapters(&root(), lang).unwrap() {
        let page = format!("{lang}/{}", file.replace(".md", ".html"));
        browser.width(PHONE);
        browser.visit(&page);
        wrong.extend(browser.errors().into_iter().map(|error| format!("{page}: {error}")));
        let wide = browser.run(OVERFLOW, json!([]));
        wrong.extend(texts(&wide).map(|text| format!("{page}, {PHONE} px: {text}")));
        browser.width(DESK);
        for theme in ["light", "navy"] {
            let pale = browser.run(CONTRAST, json!([theme]));
            wrong.extend(texts(&pale).map(|text| format!("{page}, {theme}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{} things are wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_search_finds_english_and_korean_words() {
    let Some(browser) = Browser::open() else { return };
    for (lang, word) in [("en", "cgroup"), ("ko", "네임스페이스"), ("ko", "cgroup")] {
        browser.visit(&format!("{lang}/index.html"));
        browser.click("#mdbook-search-toggle");
        browser.write("#mdbook-searchbar", word);
        let found = browser.until(FOUND, &format!("{word} is found"));
        assert!(found.as_str().is_some_and(|text| text.to_lowercase().contains(word)), "{lang}: {word} is not in what is found: {found}");
        // From an address the index comes at another moment than from a click.
        browser.visit(&format!("{lang}/index.html?search={word}"));
        browser.until(FOUND, &format!("{word} is found from an address"));
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_other_language_is_one_click_away_on_the_same_page_and_place() {
    let Some(browser) = Browser::open() else { return };
    browser.visit("en/04_overlay.html#see");
    for wanted in ["/ko/04_overlay.html#see", "/en/04_overlay.html#see"] {
        browser.click("a.language");
        browser.until(&format!("return location.pathname + location.hash === '{wanted}' && document.readyState === 'complete'"), wanted);
        let place = browser.run("return document.querySelector(':target').getBoundingClientRect().top", json!([]));
        assert!(place.as_f64().is_some_and(|top| (0.0..300.0).contains(&top)), "{wanted} is {place} below the window's top");
    }
    // The place that counts is the one where the reader is by now.
    browser.run("location.hash = '#engine'", json!([]));
    browser.click("a.language");
    browser.until("return location.pathname + location.hash === '/ko/04_overlay.html#engine'", "the switch follows the reader");
}

#[test]
fn copying_a_block_of_commands_gives_the_commands_alone() {
    let Some(browser) = Browser::open() else { return };
    let text = chapter(&root(), "en", "04_overlay.md").unwrap();
    let all: Vec<_> = fences::lines(&text).collect();
    let start = all.iter().position(|line| line.fence.opens_console()).expect("the chapter has a block of commands");
    let block: Vec<&str> = all[start + 1..].iter().take_while(|line| !line.fence.is_fence).map(|line| line.text).collect();
    let wanted: Vec<&str> = console::typed(&block).unwrap().into_iter().flat_map(|typed| typed.command).collect();

    browser.visit("en/04_overlay.html");
    for permission in ["clipboard-read", "clipboard-write"] {
        browser.tell_chromium("Browser.setPermission", json!({"permission": {"name": permission}, "setting": "granted"}));
    }
    browser.click(".console .clip-button");
    browser.until("return document.querySelector('.console .tooltipped') !== null", "the button says that it copied");
    let copied =
        browser.call("POST", "/execute/async", &json!({"script": "navigator.clipboard.readText().then(arguments[0], arguments[0])", "args": []}));
    assert_eq!(copied.as_str().unwrap_or_default().lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn who_uses_the_keyboard_sees_where_they_are() {
    let Some(browser) = Browser::open() else { return };
    browser.visit("ko/04_overlay.html");
    for step in 0..8 {
        browser.press_tab();
        let seen = browser.run("const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + s.outlineWidth", json!([]));
        assert_eq!(seen, "solid 3px", "after {step} more steps");
    }
}

/// What stands left of the window's right edge neither by itself nor because something around it scrolls.
const OVERFLOW: &str = r"
const wide = [];
const content = document.querySelector('.content');
if (content.scrollWidth > content.clientWidth) wide.push(`the page scrolls sideways: ${content.scrollWidth} > ${content.clientWidth}`);
const scrolls = element => {
    for (let box = element.parentElement; box && box !== content; box = box.parentElement) {
        if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return true;
    }
    return false;
};
for (const element of document.querySelectorAll('main *, #mdbook-menu-bar *')) {
    const box = element.getBoundingClientRect();
    if (box.width > 0 && box.right > innerWidth + 1 && !scrolls(element) && !element.closest('.hidden, .theme-popup')) {
        wide.push(`${element.tagName} ends at ${Math.round(box.right)}: ${element.textContent.trim().slice(0, 60)}`);
    }
}
return wide.slice(0, 5);
";

/// Texts whose contrast with what is behind them is below 4.5, each pair of colours once.
const CONTRAST: &str = r"
const root = document.documentElement;
root.classList.remove('light', 'navy');
root.classList.add(arguments[0]);
document.getElementById('mdbook-sidebar-toggle-anchor').checked = true;
for (const fold of document.querySelectorAll('details')) fold.open = true;
for (const moving of document.getAnimations()) moving.finish();
const parse = text => {
    const numbers = text.match(/[\d.]+/g).map(Number);
    return { rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
};
const over = (top, alpha, below) => top.map((value, at) => value * alpha + below[at] * (1 - alpha));
const behind = element => {
    let layers = [], below = [255, 255, 255];
    for (let box = element; box; box = box.parentElement) {
        const { rgb, alpha } = parse(getComputedStyle(box).backgroundColor);
        if (alpha > 0) layers.unshift({ rgb, alpha });
        if (alpha === 1) break;
    }
    for (const layer of layers) below = over(layer.rgb, layer.alpha, below);
    return below;
};
// A drawing has no backgrounds: what is behind a text are the rectangles that were drawn before it.
const behindInDrawing = text => {
    const drawing = text.ownerSVGElement, place = text.getBoundingClientRect();
    const x = (place.left + place.right) / 2, y = (place.top + place.bottom) / 2;
    let below = behind(drawing.parentElement);
    for (const shape of drawing.querySelectorAll('rect')) {
        if (!(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) break;
        const box = shape.getBoundingClientRect(), style = getComputedStyle(shape);
        if (style.fill === 'none' || x < box.left || x > box.right || y < box.top || y > box.bottom) continue;
        below = over(parse(style.fill).rgb, Number(style.fillOpacity), below);
    }
    return below;
};
const light = rgb => {
    const [r, g, b] = rgb.map(value => value / 255).map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const pale = new Map();
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest('script, style, template, title, desc') || !element.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(element), drawn = element.ownerSVGElement;
    const { rgb, alpha } = parse(drawn ? style.fill : style.color);
    const below = drawn ? behindInDrawing(element) : behind(element);
    const [more, less] = [light(over(rgb, alpha, below)), light(below)].sort((a, b) => b - a);
    const ratio = (more + 0.05) / (less + 0.05);
    const pair = `${rgb} on ${below.map(Math.round)}`;
    if (ratio < 4.5 && !pale.has(pair)) pale.set(pair, `${ratio.toFixed(2)}: ${pair}: ${element.tagName}.${element.className.baseVal ?? element.className}: ${walk.currentNode.data.trim().slice(0, 40)}`);
}
return [...pale.values()];
";

/// What the search shows, once it shows something.
const FOUND: &str =
    "const all = document.querySelectorAll('#mdbook-searchresults li'); return all.length ? [...all].map(one => one.textContent).join('\\n') : null";

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().expect("a list").iter().filter_map(Value::as_str)
}

/// The address at which both editions are served as long as this process lives.
fn address() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let place = edition::build(&root(), &Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("book-{}", std::process::id()))).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let place = place.clone();
                thread::spawn(move || serve::answer(&place, &stream));
            }
        });
        address
    })
}

/// A Chromium without a window, and the driver that tells it what to do. Both end with it.
struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
}

impl Browser {
    /// None, after a line that says so, where there is no Chromium.
    fn open() -> Option<Browser> {
        let (_, driver) = (program("chromium")?, program("chromedriver")?);
        let mut driver = Command::new(driver).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
        let port: u16 = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.rsplit_once("successfully on port ")?.1.trim_end_matches('.').parse().ok())
            .expect("chromedriver says its port");
        thread::spawn(move || lines.for_each(drop));
        let agent =
            ureq::Agent::config_builder().proxy(None).http_status_as_error(false).timeout_global(Some(Duration::from_secs(60))).build().into();
        let mut browser = Browser { driver, agent, session: format!("http://127.0.0.1:{port}") };
        let arguments = [
            "--headless=new",
            "--no-sandbox", // as root it won't start otherwise; it sees our own pages alone
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ];
        let wanted = json!({"goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": {"args": arguments}});
        let made = browser.call("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session += &format!("/session/{}", made["sessionId"].as_str().expect("a session"));
        browser.width(DESK);
        Some(browser)
    }

    /// One command of WebDriver, in the session once there is one; what it answers.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (url, body) = (format!("{}{path}", self.session), body.to_string());
        let answer =
            if method == "DELETE" { self.agent.delete(&url).call() } else { self.agent.post(&url).content_type("application/json").send(&body) };
        let text = answer.and_then(|mut answer| answer.body_mut().read_to_string()).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let value = serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{method} {path}: {e}: {text}"))["value"].take();
        assert!(value["error"].is_null(), "{method} {path}: {}: {}", value["error"], value["message"]);
        value
    }

    fn tell_chromium(&self, command: &str, parameters: Value) -> Value {
        self.call("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// A window so wide, and like a phone's when it is narrow.
    fn width(&self, width: u32) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE});
        self.tell_chromium("Emulation.setDeviceMetricsOverride", size);
    }

    fn visit(&self, page: &str) {
        self.call("POST", "/url", &json!({"url": format!("{}/{page}", address())}));
    }

    #[track_caller]
    fn run(&self, script: &str, arguments: Value) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// Waits until a script gives something true, and gives that.
    #[track_caller]
    fn until(&self, script: &str, what: &str) -> Value {
        let started = Instant::now();
        loop {
            match self.run(script, json!([])) {
                Value::Null | Value::Bool(false) => assert!(started.elapsed() < PATIENCE, "waited in vain: {what}"),
                value => return value,
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn element(&self, selector: &str) -> String {
        let found = self.call("POST", "/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.expect("an element").to_string()
    }

    /// As with a mouse: whatever covers the element gets the click, and that is an error.
    #[track_caller]
    fn click(&self, selector: &str) {
        let at = json!({"type": "pointer", "id": "mouse", "actions": [
            {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": {ELEMENT: self.element(selector)}},
        ]});
        self.run("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })", json!([selector]));
        // Buttons in a block of code are there when the mouse is.
        self.call("POST", "/actions", &json!({"actions": [at]}));
        self.call("POST", &format!("/element/{}/click", self.element(selector)), &json!({}));
    }

    fn write(&self, selector: &str, text: &str) {
        self.call("POST", &format!("/element/{}/value", self.element(selector)), &json!({"text": text}));
    }

    fn press_tab(&self) {
        let keys = [json!({"type": "keyDown", "value": "\u{e004}"}), json!({"type": "keyUp", "value": "\u{e004}"})];
        self.call("POST", "/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": keys}]}));
    }

    /// What the browser's console has had to complain about since the last look.
    fn errors(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", &json!({"type": "browser"}));
        let severe = log.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }
}

/// The name under which WebDriver speaks of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with the session; a driver that is only killed would leave it.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Where a peer is; None, after one visible line, when it isn't there.
///
/// # Panics
/// When it isn't there, with `ONGGI_REQUIRE_PEERS=1`.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let required = std::env::var_os("ONGGI_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is not installed, and ONGGI_REQUIRE_PEERS=1 allows no skip");
        let _ = std::io::stderr().lock().write_all(format!("skipped: {name} is not installed\n").as_bytes());
    }
    found
}

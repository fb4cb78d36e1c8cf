//! The page's words, in English and in Korean.

/// What the page says.
pub struct Words {
    pub lang: &'static str,
    pub title: &'static str,
    pub mirror_of: &'static str,
    pub read_only: &'static str,
    pub saved: &'static str,
    pub served: &'static str,
    pub fetched: &'static str,
    pub received: &'static str,
    pub setting_up: &'static str,
    pub setting_up_once: &'static str,
    pub images: &'static str,
    pub no_images: &'static str,
    pub push_one: &'static str,
    pub pull_it: &'static str,
    pub platform: &'static str,
    pub size: &'static str,
    pub layer: &'static str,
    pub shared: &'static str,
    pub shared_with: &'static str,
    pub own: &'static str,
    pub not_fetched: &'static str,
    pub more: &'static str,
    pub certificate: &'static str,
}

pub const ENGLISH: Words = Words {
    lang: "en",
    title: "The classroom's registry",
    mirror_of: "What is not here is fetched once from",
    read_only: "Read-only: images can be pulled, and not pushed.",
    saved: "saved on the line outside",
    served: "sent to clients",
    fetched: "fetched from outside",
    received: "pushed by clients",
    setting_up: "Set up your computer",
    setting_up_once: "Once, in one of these:",
    images: "Images",
    no_images: "There are no images here yet.",
    push_one: "Push one:",
    pull_it: "Pull it:",
    platform: "Platform",
    size: "Size",
    layer: "Layer",
    shared: "Use",
    shared_with: "images share it",
    own: "this image's own",
    not_fetched: "not fetched yet",
    more: "more images: onggi search, or /v2/_catalog",
    certificate: "The certificate to trust",
};

pub const KOREAN: Words = Words {
    lang: "ko",
    title: "우리 교실 레지스트리",
    mirror_of: "여기에 없는 이미지는 다음 레지스트리에서 한 번만 받아 옵니다:",
    read_only: "읽기 전용입니다. 이미지를 받을 수만 있고 올릴 수는 없습니다.",
    saved: "외부 회선에서 아낀 양",
    served: "학생들에게 보낸 양",
    fetched: "외부에서 받아 온 양",
    received: "학생들이 올린 양",
    setting_up: "내 컴퓨터 설정",
    setting_up_once: "다음 중 하나를 한 번만 설정하세요.",
    images: "이미지",
    no_images: "아직 이미지가 없습니다.",
    push_one: "이미지 올리기:",
    pull_it: "이미지 받기:",
    platform: "플랫폼",
    size: "크기",
    layer: "레이어",
    shared: "사용",
    shared_with: "개 이미지가 함께 씁니다",
    own: "이 이미지만 씁니다",
    not_fetched: "아직 받아 오지 않았습니다",
    more: "개의 이미지가 더 있습니다. onggi search 명령이나 /v2/_catalog에서 볼 수 있습니다.",
    certificate: "신뢰할 인증서",
};

/// The words for one who sends this `Accept-Language`: of the two languages the one that is liked better.
pub fn words(accepted: &str) -> &'static Words {
    let weight = |language: &str| {
        let fits =
            |part: &&str| part.split(';').next().is_some_and(|tag| tag.trim().split('-').next().unwrap_or_default().eq_ignore_ascii_case(language));
        let part = accepted.split(',').find(fits)?;
        let quality = part.split(';').nth(1).and_then(|quality| quality.trim().strip_prefix("q=")?.parse::<f32>().ok());
        Some(quality.unwrap_or(1.0))
    };
    match (weight("ko"), weight("en")) {
        (Some(korean), english)
            if korean > 0.0 && english.is_none_or(|english| korean > english || korean == english && first_is_korean(accepted)) =>
        {
            &KOREAN
        }
        _ => &ENGLISH,
    }
}

fn first_is_korean(accepted: &str) -> bool {
    accepted.trim_start().get(..2).is_some_and(|tag| tag.eq_ignore_ascii_case("ko"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_liked_language_is_spoken() {
        for (accepted, lang) in [
            ("", "en"),
            ("ko", "ko"),
            ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", "ko"),
            ("en-US,en;q=0.9,ko;q=0.8", "en"),
            ("fr", "en"),
            ("fr,ko;q=0.5", "ko"),
            ("ko;q=0", "en"),
            ("ko,en", "ko"),
            ("ko;q=0.5,en", "en"),
            ("옹기", "en"),
        ] {
            assert_eq!(words(accepted).lang, lang, "{accepted}");
        }
    }
}

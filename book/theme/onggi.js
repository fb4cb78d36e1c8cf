// What the pages do beyond mdBook's own script: the way to the other language, commands without their prompts, words in Korean.
'use strict';

(function () {
    const korean = document.documentElement.lang === 'ko';

    // The same page and the same place in the other edition: they have the same names in both.
    const other = korean ? { lang: 'en', name: 'English' } : { lang: 'ko', name: '한국어' };
    const link = document.createElement('a');
    link.className = 'language';
    link.lang = link.hreflang = other.lang;
    link.textContent = other.name;
    const aim = () => {
        const [, page] = location.pathname.match(/\/(?:en|ko)\/(.*)$/) || [null, 'index.html'];
        link.href = new URL(`${path_to_root}../${other.lang}/${page || 'index.html'}`, location.href).href + location.hash;
    };
    aim();
    addEventListener('hashchange', aim);
    link.addEventListener('click', aim);
    document.querySelector('.right-buttons').prepend(link);

    // Copying a block of commands gives what one types, and nothing that was printed.
    const typed = block => {
        const prompts = [...block.querySelectorAll('.prompt')];
        return prompts.map(prompt => prompt.nextElementSibling.textContent).join('\n') + '\n';
    };
    const copy = text => {
        if (navigator.clipboard) return navigator.clipboard.writeText(text);
        const area = document.createElement('textarea');
        area.value = text;
        document.body.append(area);
        area.select();
        const done = document.execCommand('copy');
        area.remove();
        return done ? Promise.resolve() : Promise.reject();
    };
    document.addEventListener('click', event => {
        const button = event.target.closest('.console .clip-button');
        if (!button) return;
        event.stopImmediatePropagation();
        event.preventDefault();
        const tell = words => {
            button.querySelector('.tooltiptext').textContent = words;
            button.className = 'clip-button tooltipped';
            setTimeout(() => { button.className = 'clip-button'; }, 1500);
        };
        const block = button.closest('.console');
        copy(typed(block)).then(
            () => tell(korean ? '명령을 복사했습니다' : 'Commands copied'),
            () => tell(korean ? '복사하지 못했습니다' : 'Could not copy'),
        );
    }, true);

    // Who scrolls with the keyboard has to be able to get into what scrolls.
    const scrollers = () => {
        for (const box of document.querySelectorAll('main pre > code, .table-wrapper, .picture')) {
            if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
            else box.removeAttribute('tabindex');
        }
    };
    addEventListener('load', scrollers);
    addEventListener('resize', scrollers);

    // On paper nothing can be unfolded.
    addEventListener('beforeprint', () => {
        for (const fold of document.querySelectorAll('details:not([open])')) {
            fold.dataset.folded = '';
            fold.open = true;
        }
    });
    addEventListener('afterprint', () => {
        for (const fold of document.querySelectorAll('details[data-folded]')) {
            delete fold.dataset.folded;
            fold.open = false;
        }
    });

    const say = (selector, words) => {
        for (const element of document.querySelectorAll(selector)) {
            element.title = words;
            element.setAttribute('aria-label', words);
        }
    };
    const write = (selector, words) => {
        const element = document.querySelector(selector);
        if (element) element.textContent = words;
    };
    if (!korean) {
        write('#mdbook-theme-navy', 'Dark');
        return;
    }
    // mdBook's own words are English.
    say('#mdbook-sidebar-toggle', '차례 열고 닫기');
    say('#mdbook-theme-toggle', '색 바꾸기');
    say('#mdbook-search-toggle', '찾기 (/)');
    say('.right-buttons a[href$="print.html"]', '책 전체 인쇄');
    say('.previous', '앞 장');
    say('.next', '다음 장');
    say('.clip-button', '복사');
    write('#mdbook-theme-default_theme', '자동');
    write('#mdbook-theme-light', '밝게');
    write('#mdbook-theme-navy', '어둡게');
    document.getElementById('mdbook-sidebar').setAttribute('aria-label', '차례');
    const help = ['글쇠', '← → 앞 장, 다음 장', '/ 또는 S 찾기', '? 이 도움말', 'Esc 도움말 닫기'];
    document.querySelectorAll('#mdbook-help-popup h2, #mdbook-help-popup p').forEach((line, at) => { line.textContent = help[at]; });
    const bar = document.getElementById('mdbook-searchbar');
    if (bar) bar.placeholder = '이 책에서 찾기';
    const header = document.getElementById('mdbook-searchresults-header');
    if (header) {
        new MutationObserver(() => {
            const [, count, word] = header.textContent.match(/^(\d+|No) search results? for '(.*)'[:.]$/) || [];
            if (count) header.textContent = count === 'No' ? `‘${word}’: 찾은 것이 없습니다` : `‘${word}’: ${count}곳`;
        }).observe(header, { childList: true, characterData: true, subtree: true });
    }
    const titles = { Note: '참고', Tip: '도움말', Important: '중요', Warning: '주의', Caution: '위험' };
    for (const title of document.querySelectorAll('.blockquote-tag-title')) {
        for (const node of title.childNodes) {
            if (node.nodeType === Node.TEXT_NODE && titles[node.data.trim()]) node.data = titles[node.data.trim()];
        }
    }
})();

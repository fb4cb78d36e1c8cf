// Dark where the reader's desktop is; a button that copies the commands of a block, and nothing that was printed.
'use strict';

const dark = matchMedia('(prefers-color-scheme: dark)');
const colour = () => { document.documentElement.className = `${dark.matches ? 'navy' : 'light'} js`; };
colour();
dark.addEventListener('change', colour);

const korean = document.documentElement.lang === 'ko';
const language = document.querySelector('.language');
const place = language.href;
const aim = () => { language.href = place + location.hash; };
aim();
addEventListener('hashchange', aim);

for (const block of document.querySelectorAll('pre.console')) {
    const button = document.createElement('button');
    button.className = 'copy';
    button.textContent = korean ? '복사' : 'copy';
    button.addEventListener('click', async () => {
        const typed = [...block.querySelectorAll('.typed')].map(line => line.textContent).join('\n') + '\n';
        await navigator.clipboard.writeText(typed);
        button.textContent = korean ? '복사함' : 'copied';
        setTimeout(() => { button.textContent = korean ? '복사' : 'copy'; }, 1500);
    });
    block.append(button);
}

for (const box of document.querySelectorAll('main pre > code, .table-wrapper, .picture')) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
}

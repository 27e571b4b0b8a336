/**
 * Light and dark: as the system has it, or as was chosen here.
 * @module
 */

/** A choice; `auto` follows the system. */
export type Theme = 'auto' | 'light' | 'dark';

const THEME = 'cloister-audit-theme';

/** The choice that was made here before. */
export function savedTheme(): Theme {
  try {
    const saved = localStorage.getItem(THEME);
    return saved === 'light' || saved === 'dark' ? saved : 'auto';
  } catch {
    return 'auto';
  }
}

/** Shows the page in a theme, and remembers it. */
export function applyTheme(theme: Theme): void {
  document.documentElement.dataset['theme'] = theme;
  try {
    localStorage.setItem(THEME, theme);
  } catch {
    // for this visit, then
  }
}

/** The colour that the style sheet gives to a name such as `--allow`. */
export function colourOf(name: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

/**
 * The search box: one line of qualifiers and words, suggestions for the term at the caret, and the terms as chips.
 * @module
 */
import type { JSX, RefObject, TargetedKeyboardEvent } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { FILTER_KEYS, formatTerm, type WrittenTerm, writtenTerms } from '../../../sandbox/audit/filter.ts';
import type { ValueKey } from '../../../sandbox/audit/query/log-index.ts';
import { count } from './format.ts';
import type { Model } from './model.ts';
import { Visible } from './visible-text.tsx';

interface Props {
  readonly model: Model;
  readonly input: RefObject<HTMLInputElement | null>;
  /** The filter that is shown. */
  readonly text: string;
  /** What is wrong with it. */
  readonly error: string | undefined;
  onAsk(text: string): void;
  onExport(): void;
}

/** What may be put in place of the term at the caret. */
interface Suggestion {
  /** What the line then holds from `at` to the caret. */
  readonly term: string;
  readonly note: string;
}

const NOTES: Readonly<Record<(typeof FILTER_KEYS)[number], string>> = {
  actor: 'who asked',
  action: 'what was done',
  decision: 'allow, refuse, or a reason',
  object: 'name or kind of what it was done to',
  scope: 'budget scope',
  request: 'records of one request',
  model: 'digest of the model',
  since: 'a time, or 90s, 30m, 12h, 7d, 2w ago',
  until: 'a time, or how long ago',
};

/** The box, its suggestions and its chips. */
export function SearchBox({ model, input, text, error, onAsk, onExport }: Props): JSX.Element {
  const [line, setLine] = useState(text);
  const [suggestions, setSuggestions] = useState<readonly Suggestion[]>([]);
  const [chosen, setChosen] = useState(-1);
  const [caret, setCaret] = useState<number | undefined>();
  useEffect(() => setLine(text), [text]);

  useEffect(() => {
    setChosen(-1);
    if (caret === undefined) return setSuggestions([]);
    const stop = new AbortController();
    const timer = setTimeout(() => {
      suggest(model, line.slice(0, caret), stop.signal).then(setSuggestions, () => setSuggestions([]));
    }, 80);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [line, caret]);

  const ask = (asked: string): void => {
    setCaret(undefined);
    onAsk(asked.trim());
  };
  const take = ({ term }: Suggestion): void => {
    const end = caret ?? line.length;
    const at = termStart(line.slice(0, end));
    const done = term.endsWith(':') ? term : `${term} `;
    setLine(line.slice(0, at) + done + line.slice(end).trimStart());
    const next = at + done.length;
    setCaret(next);
    input.current?.focus();
    requestAnimationFrame(() => input.current?.setSelectionRange(next, next));
  };
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLInputElement>): void => {
    const open = suggestions.length > 0;
    if (open && (event.key === 'ArrowDown' || event.key === 'ArrowUp')) {
      const step = event.key === 'ArrowDown' ? 1 : -1;
      setChosen((chosen + step + suggestions.length + (chosen < 0 && step < 0 ? 1 : 0)) % suggestions.length);
    } else if (open && chosen >= 0 && (event.key === 'Enter' || event.key === 'Tab')) {
      take(suggestions[chosen]!);
    } else if (event.key === 'Enter') {
      ask(line);
    } else if (event.key === 'Escape') {
      if (open) setCaret(undefined);
      else input.current?.blur();
    } else return;
    event.preventDefault();
  };
  const terms = termsOf(text);
  return (
    <section class="search" aria-label="Search">
      <div class="search-line">
        <div class="search-field">
          <span class="lens" aria-hidden="true">
            ⌕
          </span>
          <input
            ref={input}
            type="text"
            role="combobox"
            aria-label="Filter records"
            aria-expanded={suggestions.length > 0}
            aria-controls="suggestions"
            aria-activedescendant={chosen >= 0 ? `suggestion-${chosen}` : undefined}
            aria-invalid={error !== undefined}
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
            placeholder="actor:ward-3 -action:load since:7d words …"
            value={line}
            onInput={event => {
              setLine(event.currentTarget.value);
              setCaret(event.currentTarget.selectionStart ?? undefined);
            }}
            onKeyDown={onKeyDown}
            onFocus={event => setCaret(event.currentTarget.selectionStart ?? undefined)}
            onBlur={() => setCaret(undefined)}
          />
          <kbd class="hint">/</kbd>
          {suggestions.length > 0 && (
            <div class="suggestions" id="suggestions" role="listbox">
              {suggestions.map((suggestion, i) => (
                <div
                  id={`suggestion-${i}`}
                  role="option"
                  tabIndex={-1}
                  aria-selected={i === chosen}
                  onMouseDown={event => {
                    event.preventDefault(); // the box keeps the focus
                    take(suggestion);
                  }}
                >
                  <span class="mono">
                    <Visible text={suggestion.term} />
                  </span>
                  <span class="faint">{suggestion.note}</span>
                </div>
              ))}
            </div>
          )}
        </div>
        <button type="button" class="button" onClick={onExport}>
          Export
        </button>
      </div>
      {error !== undefined && (
        <p class="error" role="alert">
          <Visible text={error} />
        </p>
      )}
      {terms.length > 0 && (
        <ul class="chips" aria-label="Filter">
          {terms.map(term => (
            <li class={term.exclude ? 'chip out' : 'chip'}>
              <button
                type="button"
                class="chip-text"
                title={term.exclude ? 'Ask for it instead' : 'Leave it out instead'}
                disabled={term.key === 'since' || term.key === 'until'}
                onClick={() => ask(replaced(text, term, formatTerm({ ...term, exclude: !term.exclude })))}
              >
                {term.exclude && <span class="not">not</span>}
                {term.key !== 'text' && <span class="chip-key">{term.key}</span>}
                <Visible text={term.value} />
              </button>
              <button
                type="button"
                class="chip-away"
                aria-label={`Remove ${formatTerm(term)}`}
                onClick={() => ask(replaced(text, term, ''))}
              >
                ×
              </button>
            </li>
          ))}
          {terms.length > 1 && (
            <li>
              <button type="button" class="link" onClick={() => ask('')}>
                Clear
              </button>
            </li>
          )}
        </ul>
      )}
    </section>
  );
}

function termsOf(text: string): readonly WrittenTerm[] {
  try {
    return writtenTerms(text);
  } catch {
    return [];
  }
}

function replaced(text: string, { at, end }: WrittenTerm, by: string): string {
  return `${text.slice(0, at)}${by}${text.slice(end)}`.replace(/ {2,}/g, ' ').trim();
}

/** Where the term begins that is being written at the end of `before`. */
function termStart(before: string): number {
  return before.length - (/\S*$/.exec(before)?.[0].length ?? 0);
}

async function suggest(model: Model, before: string, signal: AbortSignal): Promise<readonly Suggestion[]> {
  const term = before.slice(termStart(before));
  const [, dash = '', key = '', colon = '', prefix = ''] = /^(-?)([a-z]*)(:?)(.*)$/is.exec(term) ?? [];
  if (colon === '') {
    const keys = FILTER_KEYS.filter(
      name => name.startsWith(key.toLowerCase()) && (dash === '' || !/since|until/.test(name)),
    );
    return keys.map(name => ({ term: `${dash}${name}:`, note: NOTES[name] }));
  }
  const known = FILTER_KEYS.find(name => name === key);
  if (known === undefined || known === 'since' || known === 'until') return [];
  const values = await model.values(known satisfies ValueKey, prefix.replace(/^"/, ''), signal);
  return values.map(({ value, count: times }) => ({
    term: formatTerm({ key: known, value, exclude: dash !== '' }),
    note: count(times),
  }));
}

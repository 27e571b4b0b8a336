/**
 * Hooks that several components use.
 * @module
 */
import { useEffect, useReducer, useState } from 'preact/hooks';
import type { Model } from './model.ts';

/** Draws the component again after every change of the model, at most once a frame. */
export function useModel(model: Model): void {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    let frame = 0;
    const unsubscribe = model.subscribe(() => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        redraw(undefined);
      });
    });
    redraw(undefined); // what changed between drawing and subscribing
    return () => {
      cancelAnimationFrame(frame);
      unsubscribe();
    };
  }, [model]);
}

/** What a question to the server has led to. */
export type Loaded<T> =
  | { readonly kind: 'loading' }
  | { readonly kind: 'there'; readonly value: T }
  | { readonly kind: 'failed'; readonly message: string };

/** Asks whenever `inputs` change; the answer to an older question is dropped. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, inputs: readonly unknown[]): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>({ kind: 'loading' });
  useEffect(() => {
    const stop = new AbortController();
    load(stop.signal).then(
      value => stop.signal.aborted || setState({ kind: 'there', value }),
      (error: unknown) => {
        if (stop.signal.aborted) return;
        setState({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
      },
    );
    return () => stop.abort();
  }, inputs);
  return state;
}

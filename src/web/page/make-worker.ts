/**
 * Makes the worker. Where the browser asks for trusted types, its address passes through the one policy that the page has.
 * @module
 */
import address from './worker.ts?worker&url';

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
}

/** The worker that checks the log. */
export function makeWorker(): Worker {
  const { trustedTypes } = globalThis as { readonly trustedTypes?: TrustedTypes };
  const policy = trustedTypes?.createPolicy('worker', {
    createScriptURL(url) {
      if (url !== address) throw new TypeError('the page has one worker');
      return url;
    },
  });
  return new Worker(policy?.createScriptURL(address) ?? address, { type: 'module' });
}

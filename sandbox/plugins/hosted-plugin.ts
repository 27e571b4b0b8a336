/**
 * Plugins beside their guest: opened, lent what they may have, called. The same code serves in a worker process and in the calling one.
 * @module
 */
import { osRandom } from '../../src/base/index.ts';
import type { GuestCall } from '../hosted-model.ts';
import { Guest, type GuestAnswer, type GuestOptions } from '../isolate.ts';
import type { LendingHost } from '../lending/capability.ts';
import { Lending, type Uses } from '../lending/lending.ts';
import { lentTogether, type SentPlugin } from './sent.ts';

/** What plugins are hosted with. */
export interface PluginHostOptions extends GuestOptions {
  /** Stops plain JavaScript after so long; without it, whoever holds the process does. */
  readonly wallMs?: number | undefined;
  /** Hears each line that is logged. */
  readonly onLine: (line: string) => void;
}

/** Evaluates the entries of `plugins` in a guest that has nothing yet. Returns what they say they define, and what they are lent. */
export async function plugInto(
  guest: Guest,
  plugins: readonly SentPlugin[],
  options: PluginHostOptions,
): Promise<{ readonly definitions: readonly unknown[]; readonly lending: Lending }> {
  const start = performance.now();
  const host: LendingHost = {
    log: options.onLine,
    elapsedMs: () => performance.now() - start,
    random: osRandom,
    entries: new Map(),
    model: new Uint8Array(0),
    memoryMb: options.memoryMb,
  };
  const lending = new Lending(lentTogether(plugins), host);
  guest.lendPlugins(lending);
  const definitions: unknown[] = [];
  for (const { id, kind, parts, payload } of plugins) {
    const { header } = await settled(guest, 'plugin', { id, kind, parts }, payload, options);
    definitions.push(header['definition']);
  }
  return { definitions, lending };
}

/** One plugin in a guest of its own; a statistic in a fresh one for each call, so that no record tells of another. */
export class HostedPlugin {
  readonly definition: unknown;
  readonly #plugin: SentPlugin;
  readonly #options: PluginHostOptions;
  #guest: Guest;
  #lending: Lending;
  #used = false;

  private constructor(
    plugin: SentPlugin,
    options: PluginHostOptions,
    guest: Guest,
    { definitions, lending }: Awaited<ReturnType<typeof plugInto>>,
  ) {
    [this.definition] = definitions;
    this.#plugin = plugin;
    this.#options = options;
    this.#guest = guest;
    this.#lending = lending;
  }

  /** @throws {CloisterError} `GUEST_FAILED`, `LIMIT_EXCEEDED`. */
  static async open(plugin: SentPlugin, options: PluginHostOptions): Promise<HostedPlugin> {
    const guest = Guest.open(options);
    try {
      return new HostedPlugin(plugin, options, guest, await plugInto(guest, [plugin], options));
    } catch (error) {
      guest.close();
      throw error;
    }
  }

  /** What was used so far. */
  get uses(): Uses {
    return this.#lending.uses;
  }

  /** Calls the plugin, and comes back when nothing of it goes on any more. */
  async call(op: string, header: object, payload: Uint8Array): Promise<GuestAnswer> {
    if (this.#used && this.#plugin.kind === 'statistic') await this.#renew();
    this.#used = true;
    return await settled(this.#guest, op, header, payload, this.#options);
  }

  /** Frees the guest. */
  close(): void {
    this.#lending.end();
    this.#guest.close();
  }

  async #renew(): Promise<void> {
    this.close();
    this.#guest = Guest.open(this.#options);
    ({ lending: this.#lending } = await plugInto(this.#guest, [this.#plugin], this.#options));
  }
}

/** How the guest of a model is called, that has plugins: see {@link settled}. */
export function pluggedCall(guest: Guest, wallMs?: number): GuestCall {
  return (op, header, payload) => settled(guest, op, header, payload, { wallMs });
}

/**
 * Asks a guest, and asks it again for nothing: that comes back when no promise of the first goes on any more. So what a plugin leaves
 * behind is stopped under the limits of the call that left it.
 */
async function settled(
  guest: Guest,
  op: string,
  header: object,
  payload: Uint8Array | undefined,
  { wallMs }: Pick<PluginHostOptions, 'wallMs'>,
): Promise<GuestAnswer> {
  if (wallMs === undefined) {
    const answer = await guest.call(op, header, payload);
    await guest.call('settle', {});
    return answer;
  }
  const answer = guest.callSync(op, header, payload, wallMs);
  guest.callSync('settle', {}, undefined, wallMs);
  return answer;
}

/**
 * A plugin in an isolate of the calling process.
 * @module
 */
import { CloisterError, isCloisterError } from '../../src/base/index.ts';
import { CLOCK_STEPS } from '../isolate.ts';
import type { Uses } from '../lending/lending.ts';
import { limitError } from '../limit-error.ts';
import { joinBytes } from '../tensors.ts';
import type { PluggedIn, PluginAnswer, PlugRequest } from '../walls.ts';
import { type PluginDefinition, parseDefinition } from './definition.ts';
import { HostedPlugin } from './hosted-plugin.ts';

/** A plugin whose limits stop careless code; hostile code can pass them. */
export class LocalPlugin implements PluggedIn {
  readonly definition: PluginDefinition;
  readonly #request: PlugRequest;
  readonly peakMb = undefined;
  #hosted: HostedPlugin | undefined;
  #uses: Uses;
  #closed = false;
  /** Calls are served one after the other, as in a worker. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(request: PlugRequest, hosted: HostedPlugin) {
    this.definition = parseDefinition(request.plugin.kind, hosted.definition);
    this.#request = request;
    this.#hosted = hosted;
    this.#uses = hosted.uses;
  }

  /** @throws {CloisterError} `GUEST_FAILED`, `LIMIT_EXCEEDED`. */
  static async open(request: PlugRequest): Promise<LocalPlugin> {
    return new LocalPlugin(request, await host(request));
  }

  get uses(): Uses {
    return this.#uses;
  }

  ask(ask: string, header: object, parts: readonly Uint8Array[]): Promise<PluginAnswer> {
    const answer = this.#turn.then(() => this.#ask(ask, header, parts));
    this.#turn = answer.catch(() => {});
    return answer;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#hosted?.close();
  }

  async #ask(ask: string, header: object, parts: readonly Uint8Array[]): Promise<PluginAnswer> {
    const { plugin, limits } = this.#request;
    if (this.#closed) throw new CloisterError('CLOSED', `the plugin ${plugin.id} is closed`);
    try {
      this.#hosted ??= await host(this.#request);
      const answer = await this.#hosted.call(ask, header, joinBytes(parts));
      this.#uses = this.#hosted.uses;
      if (answer.payload.length > limits.outputBytes) {
        throw limitError('outputBytes', limits.outputBytes, answer.payload.length);
      }
      return answer;
    } catch (error) {
      if (isCloisterError(error, 'GUEST_FAILED') || isCloisterError(error, 'LIMIT_EXCEEDED')) {
        this.#hosted?.close();
        this.#hosted = undefined;
      }
      throw error;
    }
  }
}

function host({ plugin, limits, onLine }: PlugRequest): Promise<HostedPlugin> {
  const { memoryMb, wallMs } = limits;
  return HostedPlugin.open(plugin, { memoryMb, wallMs, clockSteps: CLOCK_STEPS.isolate, onLine });
}

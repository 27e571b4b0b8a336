/**
 * Finds out which layers of protection are active here.
 * @module
 */
import { type Confinement, isConfinedLayer } from './confinement/confinement.ts';
import { dumpLayer } from './confinement/dump.ts';
import { type Capabilities, LAYERS, type Layer, type LayerName } from './layers.ts';
import type { Isolation } from './walls.ts';
import { canMeter } from './worker/process.ts';

/** What this machine and this isolation give. `confinement` is what the launcher reported, under isolation `process`. */
export function listLayers(isolation: Isolation, confinement: Confinement | undefined): Capabilities {
  const active: Layer = { status: 'active' };
  const unrequested: Layer = { status: 'not requested' };
  const metered: Layer = canMeter()
    ? active
    : { status: 'unavailable', why: `${process.platform} has no /proc to read usage from`, mend: 'run it on Linux' };
  const own = (name: LayerName): Layer => {
    if (name === 'isolate') return isolation === 'none' ? unrequested : active;
    if (confinement === undefined) return unrequested;
    if (name === 'noDump') return dumpLayer(confinement);
    if (isConfinedLayer(name)) return confinement.layers[name];
    return name === 'process' || name === 'wallWatch' ? active : metered;
  };
  const layers = Object.fromEntries(LAYERS.map(name => [name, Object.freeze(own(name))]));
  return Object.freeze({ isolation, layers: Object.freeze(layers) as Capabilities['layers'] });
}

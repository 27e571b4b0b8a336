/**
 * The request scheduler: who runs next, together with whom, and who has to be told that there is no room.
 * @module
 */
export {
  type BatchOptions,
  type BatchTenants,
  PRIORITY_CLASSES,
  type PriorityClass,
  type RequestOptions,
  type SchedulerOptions,
  type SchedulerOptionsInput,
  type ServeOptions,
  type ServeOptionsInput,
  schedulerOptionsSchema,
  serveOptionsSchema,
} from './options.ts';
export { openScheduler, type Runnable, type Scheduler, type ServedExecutable } from './scheduler.ts';
export {
  type ClassStatistics,
  type Ending,
  type SchedulerStatistics,
  WAIT_BUCKETS_MS,
  type WaitHistogram,
} from './statistics.ts';

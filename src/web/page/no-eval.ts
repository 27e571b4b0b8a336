/**
 * To be imported before any schema is made: zod would else try whether it may compile code, which the content security policy of the
 * page forbids and reports.
 * @module
 */
import { config } from 'zod/v4/core';

config({ jitless: true });

/**
 * The review page: the entry of its bundle.
 * @module
 */
import './style.css';
import { render } from 'preact';
import { App } from './app.tsx';
import { makeWorker } from './make-worker.ts';
import { Model } from './model.ts';
import { applyTheme, savedTheme } from './theme.ts';

applyTheme(savedTheme());
const model = new Model(makeWorker());
void model.start();
render(<App model={model} />, document.getElementById('page')!);

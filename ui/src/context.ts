// What all pages share.
import { createContext } from 'preact';
import type { RuntimeInfo } from './api';

export interface Shared {
  dark: boolean;
  utc: boolean;
  runtime?: RuntimeInfo;
}

export const SharedContext = createContext<Shared>({ dark: false, utc: false });

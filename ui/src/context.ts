// What all pages share.
import { createContext } from 'preact';
import type { RuntimeInfo } from './api/shapes';

export interface Shared {
  dark: boolean;
  utc: boolean;
  runtime?: RuntimeInfo;
  /** Whether this process asks many stores. */
  gathering: boolean;
}

export const SharedContext = createContext<Shared>({ dark: false, utc: false, gathering: false });

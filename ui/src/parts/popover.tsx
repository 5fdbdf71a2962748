// A panel below a button, and a dialog over the page.
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { Icon } from './icons';

/** A button that opens a panel; Escape, a click beside it or `close` shuts it. */
export function Popover(props: {
  label: ComponentChildren;
  title: string;
  /** What it is called where its label has no words. */
  name?: string;
  class?: string;
  align?: 'left' | 'right';
  children: (close: () => void) => ComponentChildren;
}) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLSpanElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();
  useEffect(() => {
    if (!open) return;
    const beside = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    const key = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      setOpen(false);
      button.current?.focus();
    };
    document.addEventListener('pointerdown', beside);
    document.addEventListener('focusin', beside);
    document.addEventListener('keydown', key, true);
    return () => {
      document.removeEventListener('pointerdown', beside);
      document.removeEventListener('focusin', beside);
      document.removeEventListener('keydown', key, true);
    };
  }, [open]);
  return (
    <span class="popover-root" ref={root}>
      <button
        type="button"
        ref={button}
        class={props.class ?? 'control'}
        title={props.title}
        aria-label={props.name}
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => setOpen(!open)}
      >
        {props.label}
      </button>
      {open && (
        <div id={id} role="dialog" aria-label={props.title} class={`popover ${props.align ?? 'left'}`}>
          {props.children(() => {
            setOpen(false);
            button.current?.focus();
          })}
        </div>
      )}
    </span>
  );
}

/** An entry of a popover that is a menu. */
export function MenuItem(props: { onClick: () => void; children: ComponentChildren; checked?: boolean }) {
  return (
    <button type="button" class="menu-item" aria-pressed={props.checked} onClick={props.onClick}>
      {props.children}
    </button>
  );
}

/** A modal dialog; the browser keeps the focus inside and brings it back. */
export function Dialog(props: { title: string; wide?: boolean; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      class={props.wide ? 'wide' : undefined}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onClick={(event) => event.target === dialog.current && props.onClose()}
    >
      <div class="dialog-body">
        <header>
          <h2 id={id}>{props.title}</h2>
          <button type="button" class="icon-button" aria-label="Close" onClick={props.onClose}>
            <Icon name="close" />
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}

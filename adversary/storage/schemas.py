"""The tables of a run: their columns and types."""

from __future__ import annotations

from adversary.storage import csv_table

LEAKAGE: csv_table.Schema = {
    "round": "Int64",
    "client": "string",
    "attack": "string",
    "image": "Int64",
    "truth": "string",
    "mse": "float64",
    "psnr": "float64",
    "ssim": "float64",
    "lpips": "float64",
    "fft2d": "float64",
    "rdlv": "float64",
    "bound_psnr": "float64",
    "expected_psnr": "float64",
    "prior_psnr": "float64",
    "null_psnr": "float64",
    "null_rdlv": "float64",
    "certificate": "string",
    "member": "string",
    "flags": "string",
    "reidentified": "boolean",
    "negative": "boolean",
    "rank": "Int64",
    "rank_chance": "float64",
    "label_true": "string",
    "label_recovered": "string",
    "seconds": "float64",
    "evaluations": "Int64",
    "score": "float64",
    "status": "string",
    "note": "string",
}
ROUNDS: csv_table.Schema = {
    "round": "Int64",
    "loss": "float64",
    "auc": "float64",
    "epsilon": "float64",
    "delta": "float64",
    "seconds": "float64",
    "client_loss": "float64",
    "clients": "Int64",
    "clients_failed": "Int64",
    "lr": "float64",
    "client_auc": "float64",
    "auc_left_out": "Int64",
}

CLIENTS: csv_table.Schema = {
    "round": "Int64",
    "client": "string",
    "images": "Int64",
    "loss": "float64",
    "accuracy": "float64",
    "auc": "float64",
    "auc_left_out": "Int64",
}

ACCOUNTS: csv_table.Schema = {
    "round": "Int64",
    "client": "string",
    "rounds": "Int64",
    "epsilon": "float64",
    "delta": "float64",
    "neighbours": "string",
    "unit": "string",
    "accountant": "string",
    "against": "string",
}

MEMBERS: csv_table.Schema = {
    "round": "Int64",
    "client": "string",
    "attack": "string",
    "member": "string",
    "seconds": "float64",
    "score": "float64",
    "note": "string",
}

TRIALS: csv_table.Schema = {
    "round": "Int64",
    "client": "string",
    "attack": "string",
    "trial": "Int64",
    "image": "Int64",
    "chosen": "boolean",
    "start": "string",
    "options": "string",
    "iterations": "Int64",
    "score": "float64",
    "mse": "float64",
    "psnr": "float64",
    "ssim": "float64",
    "lpips": "float64",
    "rdlv": "float64",
    "prior_psnr": "float64",
    "null_psnr": "float64",
    "null_rdlv": "float64",
    "reidentified": "boolean",
}

IDENTIFICATION: csv_table.Schema = {
    "round": "Int64",
    "client": "string",
    "members": "Int64",
    "candidates": "Int64",
    "auc": "float64",
    "tpr_1": "float64",
    "tpr_01": "float64",
    "named": "float64",
    "ceiling_tpr_1": "float64",
    "epsilon": "float64",
    "epsilon_lower": "float64",
    "seconds": "float64",
    "flags": "string",
    "note": "string",
}

CANDIDATES: csv_table.Schema = {
    "round": "Int64",
    "client": "string",
    "candidate": "string",
    "score": "float64",
    "p_value": "float64",
    "posterior": "float64",
}

TABLES: dict[str, csv_table.Schema] = {
    "leakage.csv": LEAKAGE,
    "members.csv": MEMBERS,
    "trials.csv": TRIALS,
    "rounds.csv": ROUNDS,
    "clients.csv": CLIENTS,
    "accounts.csv": ACCOUNTS,
}

"""English."""

from __future__ import annotations

from tasks.rules.languages.base import PHRASES, Catalogue, Headings, Reason

_COMPLETE = "Send the complete file again."
_COLUMNS = "Send the agreed columns in the agreed order; columns are never renamed or moved by us."
_QUOTES = 'Write a double quote inside a text as "" and put the text in double quotes.'
_ITSELF = "Send the document itself in the agreed format; if this was not you, tell your security team."

CATALOGUE = Catalogue(
    code="en",
    headings=Headings(
        title="This file was not accepted",
        refused="Your file {file} ({bytes} bytes, {title}) was not accepted. Nothing of it was used.",
        how="Correct what is listed here in your file, keep everything else as it is, and send the whole file again under the "
        "same name, the same way.",
        how_named="Correct what is listed here, keep everything else as it is, and send the whole file again the same way.",
        parted="Of your file {file} ({bytes} bytes, {title}) the rows listed below were not accepted. All others were.",
        how_parted="Correct these rows in your file, keep everything else as it is, and send the whole file again under the "
        "same name, the same way. Rows that were accepted are not used a second time.",
        row="Row",
        column="Column",
        value="Your value",
        problem="What is wrong",
        rule="Rule",
        fix="How to fix it",
        whole_file="whole file",
        earlier="It is row {row}.",
        joined=", ",
        thousands=",",
        counted="Rows are counted as a spreadsheet shows them: the header is row 1.",
        example="A good file of this type looks like this ({title}):",
        more="{count} more were found and are not listed. They often have the same cause: mend these first.",
        digest="SHA-256 of the file that we received",
        empty="(empty)",
        quoted="Where a value would be run as a formula by a spreadsheet, a ' was put before it here.",
    ),
    reasons={
        "already-filed": Reason(
            "The row changes one that was accepted before.",
            "Leave accepted rows as they were; send changes to them in a file of their own.",
        ),
        "after-trailer": Reason("Rows come after the control line.", "Send one table per file, its control line at the end."),
        "ambiguous-date": Reason("The date can be read as more than one day.", "Write the year first: YYYY-MM-DD."),
        "appended-archive": Reason("An archive is appended to the document.", "Send the document without the archive."),
        "bad-quote": Reason("Text goes on after a closing double quote.", _QUOTES),
        "blank-row": Reason("A blank row stands between rows.", "Remove the blank row; if rows are missing there, send them."),
        "cannot-inspect": Reason("The file is encrypted, so it cannot be checked.", "Send it without a password."),
        "column-order": Reason("The columns are in another order than agreed.", _COLUMNS),
        "content-mismatch": Reason(
            "The file is not what was agreed for this name.",
            "Send the document itself in the agreed format (a table as text, like the example here, not as a spreadsheet's workbook); "
            "if this was not you, tell your security team.",
        ),
        "double-bom": Reason("The file begins with two byte order marks.", "Export it again, with one mark or none."),
        "double-extension": Reason("The name ends like a program's.", _ITSELF),
        "duplicate-column": Reason("A column is there more than once.", _COLUMNS),
        "duplicate-key": Reason(
            "An earlier row has the same key.", "Send each once; if both rows are meant, their keys must differ."
        ),
        "empty-file": Reason("The file is empty.", _COMPLETE),
        "extension-mismatch": Reason(
            "The name's extension does not say what the file is.", "Give the file the extension of what it is."
        ),
        "field-too-long": Reason("A field is too long.", "Shorten it. An unclosed double quote also looks like this."),
        "header-too-long": Reason("The header is too long.", "Send the agreed columns only."),
        "malware-test-file": Reason("A virus scanner would report this file.", "Tell your security team."),
        "missing-column": Reason("A column is missing.", _COLUMNS),
        "missing-header": Reason("The first row is not the header.", "Send the file with its header as the first row."),
        "missing-value": Reason("The value is missing.", "Fill it in."),
        "name-content-mismatch": Reason(
            "The name says one thing and the content another.", "Correct the one that is wrong, and send the file again."
        ),
        "naming-rule": Reason("The file's name is not one that was agreed.", "Rename the file as agreed and send it again."),
        "not-text": Reason("The file is no text in the agreed encoding.", "Export the table as text in the agreed encoding."),
        "nul-byte": Reason("There is a NUL byte in the text.", "Export the table as text again."),
        "out-of-range": Reason("The value is too small or too large.", "Correct the value."),
        "program": Reason("The file is a program.", _ITSELF),
        "ragged-row": Reason(
            "The row has more or fewer fields than the header.",
            'Most often a separator inside a text: put that text into double quotes ("…").',
        ),
        "renamed-column": Reason("A column has another name than agreed.", _COLUMNS),
        "rule-broken": Reason("The value breaks a rule of this document type.", "Correct the value."),
        "runnable-name": Reason("The name ends like a program's.", _ITSELF),
        "several-values": Reason("The column holds more than one value.", "Send one file for each."),
        "too-large": Reason("The file is larger than agreed.", "Send it in parts."),
        "too-long": Reason("The text is too long.", "Shorten it."),
        "too-many-rows": Reason("The file has more rows than agreed.", "Send it in parts."),
        "too-small": Reason("The file is smaller than agreed.", _COMPLETE),
        "trailer-mismatch": Reason(
            "The control line does not agree with the rows.",
            "Rows are missing or were added on the way: send the complete file again.",
        ),
        "trailer-missing": Reason("The control line is missing.", "Send the complete file, with its control line."),
        "trailer-unreadable": Reason("The control line cannot be read.", "Write the control line as agreed."),
        "truncated": Reason("The file was cut.", _COMPLETE),
        "unclosed-quote": Reason("A double quote opens and is never closed.", _QUOTES),
        "unknown-column": Reason("A column was not agreed.", _COLUMNS),
        "unrecognised": Reason(
            "The file's name tells no agreed document type.", "Rename the file as agreed and send it again."
        ),
        "wrong-delimiter": Reason(
            "The columns are separated by another character than agreed.",
            "Export it with the character that stands between the names in the rule.",
        ),
        "wrong-encoding": Reason("The text is in another encoding than agreed.", "Export it in the agreed encoding."),
        "wrong-format": Reason("The value is not written as agreed.", "Write it as the rule says."),
        "wrong-type": Reason("The value does not fit this column.", "Correct the value."),
    },
    phrases={phrase: phrase for phrase in PHRASES},
    titles={
        "acknowledgement": "acknowledgement",
        "audit-artifact": "audit artifact",
        "checksum-list": "list of checksums",
        "contract": "contract",
        "invoice": "invoice",
        "price-list": "price list",
        "product-image": "product image",
        "shipment-manifest": "shipment manifest",
        "sidecar": "sidecar file",
        "statement": "account statement",
        "transfer": "transfer",
        "video": "video",
    },
)

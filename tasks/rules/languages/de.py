"""German."""

from __future__ import annotations

from tasks.rules.languages.base import Catalogue, Headings, Reason

_COMPLETE = "Senden Sie die vollständige Datei noch einmal."
_COLUMNS = "Senden Sie die vereinbarten Spalten in der vereinbarten Reihenfolge; wir benennen und verschieben keine Spalten."
_QUOTES = 'Schreiben Sie ein Anführungszeichen im Text als "" und setzen Sie den Text in Anführungszeichen.'
_ITSELF = (
    "Senden Sie das Dokument selbst im vereinbarten Format; kam die Datei nicht von Ihnen, melden Sie es Ihrer IT-Sicherheit."
)

CATALOGUE = Catalogue(
    code="de",
    headings=Headings(
        title="Diese Datei wurde nicht angenommen",
        refused="Ihre Datei {file} ({bytes} Bytes, {title}) wurde nicht angenommen. Nichts daraus wurde verwendet.",
        how="Berichtigen Sie in Ihrer Datei, was hier aufgeführt ist, lassen Sie alles andere, wie es ist, und senden Sie die ganze "
        "Datei unter demselben Namen noch einmal auf demselben Weg.",
        how_named="Berichtigen Sie, was hier aufgeführt ist, lassen Sie alles andere, wie es ist, und senden Sie die ganze Datei noch "
        "einmal auf demselben Weg.",
        parted="Aus Ihrer Datei {file} ({bytes} Bytes, {title}) wurden die Zeilen, die unten stehen, nicht angenommen. "
        "Alle anderen schon.",
        how_parted="Berichtigen Sie diese Zeilen in Ihrer Datei, lassen Sie alles andere, wie es ist, und senden Sie die "
        "ganze Datei unter demselben Namen noch einmal auf demselben Weg. Angenommene Zeilen werden nicht ein zweites Mal verwendet.",
        row="Zeile",
        column="Spalte",
        value="Ihr Wert",
        problem="Was nicht stimmt",
        rule="Regel",
        fix="So beheben Sie es",
        whole_file="ganze Datei",
        earlier="Es ist Zeile {row}.",
        joined=", ",
        thousands=".",
        counted="Die Zeilen sind gezählt, wie eine Tabellenkalkulation sie zeigt: Die Kopfzeile ist Zeile 1.",
        example="So sieht eine richtige Datei dieser Art aus ({title}):",
        more="{count} weitere wurden gefunden und sind nicht aufgeführt. Oft haben sie dieselbe Ursache: Beheben Sie zuerst diese.",
        digest="SHA-256 der Datei, die wir erhalten haben",
        empty="(leer)",
        quoted="Wo eine Tabellenkalkulation einen Wert als Formel ausführen würde, steht hier ein ' davor.",
    ),
    reasons={
        "already-filed": Reason(
            "Die Zeile ändert eine, die schon angenommen wurde.",
            "Lassen Sie angenommene Zeilen, wie sie waren; senden Sie Änderungen daran in einer eigenen Datei.",
        ),
        "after-trailer": Reason(
            "Nach der Kontrollzeile folgen weitere Zeilen.", "Senden Sie eine Tabelle je Datei, die Kontrollzeile am Ende."
        ),
        "ambiguous-date": Reason(
            "Das Datum lässt sich als mehr als ein Tag lesen.", "Schreiben Sie das Jahr zuerst: JJJJ-MM-TT."
        ),
        "appended-archive": Reason("An das Dokument ist ein Archiv angehängt.", "Senden Sie das Dokument ohne das Archiv."),
        "bad-quote": Reason("Nach einem schließenden Anführungszeichen geht der Text weiter.", _QUOTES),
        "blank-row": Reason(
            "Zwischen Zeilen steht eine leere.", "Entfernen Sie die leere Zeile; fehlen dort Zeilen, senden Sie sie."
        ),
        "cannot-inspect": Reason("Die Datei ist verschlüsselt und kann nicht geprüft werden.", "Senden Sie sie ohne Kennwort."),
        "column-order": Reason("Die Spalten stehen in einer anderen Reihenfolge als vereinbart.", _COLUMNS),
        "content-mismatch": Reason(
            "Die Datei ist nicht, was für diesen Namen vereinbart ist.",
            "Senden Sie das Dokument selbst im vereinbarten Format (eine Tabelle als Text, wie das Beispiel hier, nicht als "
            "Arbeitsmappe); kam die Datei nicht von Ihnen, melden Sie es Ihrer IT-Sicherheit.",
        ),
        "double-bom": Reason(
            "Die Datei beginnt mit zwei Byte-Reihenfolge-Marken.",
            "Exportieren Sie sie noch einmal, mit einer Marke oder keiner.",
        ),
        "double-extension": Reason("Der Name endet wie der eines Programms.", _ITSELF),
        "duplicate-column": Reason("Eine Spalte ist mehrfach vorhanden.", _COLUMNS),
        "duplicate-key": Reason(
            "Eine frühere Zeile hat denselben Schlüssel.",
            "Senden Sie jede nur einmal; sind beide Zeilen gemeint, müssen sich ihre Schlüssel unterscheiden.",
        ),
        "empty-file": Reason("Die Datei ist leer.", _COMPLETE),
        "extension-mismatch": Reason(
            "Die Endung des Namens sagt nicht, was die Datei ist.", "Geben Sie der Datei die Endung dessen, was sie ist."
        ),
        "field-too-long": Reason(
            "Ein Feld ist zu lang.", "Kürzen Sie es. Auch ein nicht geschlossenes Anführungszeichen sieht so aus."
        ),
        "header-too-long": Reason("Die Kopfzeile ist zu lang.", "Senden Sie nur die vereinbarten Spalten."),
        "malware-test-file": Reason("Ein Virenscanner würde diese Datei melden.", "Melden Sie es Ihrer IT-Sicherheit."),
        "missing-column": Reason("Eine Spalte fehlt.", _COLUMNS),
        "missing-header": Reason(
            "Die erste Zeile ist nicht die Kopfzeile.", "Senden Sie die Datei mit ihrer Kopfzeile als erster Zeile."
        ),
        "missing-value": Reason("Der Wert fehlt.", "Tragen Sie ihn ein."),
        "name-content-mismatch": Reason(
            "Name und Inhalt sagen Verschiedenes.", "Berichtigen Sie, was falsch ist, und senden Sie die Datei noch einmal."
        ),
        "naming-rule": Reason(
            "Der Name der Datei ist kein vereinbarter.", "Benennen Sie die Datei wie vereinbart und senden Sie sie noch einmal."
        ),
        "not-text": Reason(
            "Die Datei ist kein Text in der vereinbarten Kodierung.",
            "Exportieren Sie die Tabelle als Text in der vereinbarten Kodierung.",
        ),
        "nul-byte": Reason("Im Text steht ein NUL-Byte.", "Exportieren Sie die Tabelle noch einmal als Text."),
        "out-of-range": Reason("Der Wert ist zu klein oder zu groß.", "Berichtigen Sie den Wert."),
        "program": Reason("Die Datei ist ein Programm.", _ITSELF),
        "ragged-row": Reason(
            "Die Zeile hat mehr oder weniger Felder als die Kopfzeile.",
            'Meist steht ein Trennzeichen in einem Text: Setzen Sie diesen Text in gerade Anführungszeichen ("…").',
        ),
        "renamed-column": Reason("Eine Spalte heißt anders als vereinbart.", _COLUMNS),
        "rule-broken": Reason("Der Wert verletzt eine Regel dieser Dokumentart.", "Berichtigen Sie den Wert."),
        "runnable-name": Reason("Der Name endet wie der eines Programms.", _ITSELF),
        "several-values": Reason("Die Spalte enthält mehr als einen Wert.", "Senden Sie je Wert eine eigene Datei."),
        "too-large": Reason("Die Datei ist größer als vereinbart.", "Senden Sie sie in Teilen."),
        "too-long": Reason("Der Text ist zu lang.", "Kürzen Sie ihn."),
        "too-many-rows": Reason("Die Datei hat mehr Zeilen als vereinbart.", "Senden Sie sie in Teilen."),
        "too-small": Reason("Die Datei ist kleiner als vereinbart.", _COMPLETE),
        "trailer-mismatch": Reason(
            "Die Kontrollzeile passt nicht zu den Zeilen.",
            "Unterwegs gingen Zeilen verloren oder kamen hinzu: Senden Sie die vollständige Datei noch einmal.",
        ),
        "trailer-missing": Reason("Die Kontrollzeile fehlt.", "Senden Sie die vollständige Datei mit ihrer Kontrollzeile."),
        "trailer-unreadable": Reason("Die Kontrollzeile ist nicht lesbar.", "Schreiben Sie die Kontrollzeile wie vereinbart."),
        "truncated": Reason("Die Datei wurde abgeschnitten.", _COMPLETE),
        "unclosed-quote": Reason("Ein Anführungszeichen wird geöffnet und nicht geschlossen.", _QUOTES),
        "unknown-column": Reason("Eine Spalte ist nicht vereinbart.", _COLUMNS),
        "unrecognised": Reason(
            "Der Name der Datei sagt keine vereinbarte Dokumentart.",
            "Benennen Sie die Datei wie vereinbart und senden Sie sie noch einmal.",
        ),
        "wrong-delimiter": Reason(
            "Die Spalten sind durch ein anderes Zeichen getrennt als vereinbart.",
            "Exportieren Sie sie mit dem Zeichen, das in der Regel zwischen den Namen steht.",
        ),
        "wrong-encoding": Reason(
            "Der Text hat eine andere Kodierung als vereinbart.", "Exportieren Sie ihn in der vereinbarten Kodierung."
        ),
        "wrong-format": Reason("Der Wert ist anders geschrieben als vereinbart.", "Schreiben Sie ihn, wie die Regel sagt."),
        "wrong-type": Reason("Der Wert passt nicht in diese Spalte.", "Berichtigen Sie den Wert."),
    },
    phrases={
        "{column} has a value in every row": "{column} hat in jeder Zeile einen Wert",
        "{column} is a date of ISO 8601, YYYY-MM-DD, such as 2026-11-20": (
            "{column} ist ein Datum nach ISO 8601, JJJJ-MM-TT, wie 2026-11-20"
        ),
        "{column} is a whole number of up to 15 digits, without separators": (
            "{column} ist eine ganze Zahl mit bis zu 15 Ziffern, ohne Trennzeichen"
        ),
        "{column} is a number with {mark} before its decimals and no other separators, such as {sample}": (
            "{column} ist eine Zahl mit {mark} vor den Nachkommastellen und ohne weitere Trennzeichen, wie {sample}"
        ),
        "{column}: an article number of up to 40 letters, digits and . _ / - without blanks": (
            "{column}: eine Artikelnummer aus bis zu 40 Buchstaben, Ziffern und . _ / - ohne Leerzeichen"
        ),
        "{column}: a currency code of ISO 4217, such as EUR": "{column}: ein Währungscode nach ISO 4217, wie EUR",
        "{column}: a shipment number of up to 30 capital letters, digits and -": (
            "{column}: eine Sendungsnummer aus bis zu 30 Großbuchstaben, Ziffern und -"
        ),
        "{column}: a reference of up to 35 letters, digits, / and -": (
            "{column}: eine Referenz aus bis zu 35 Buchstaben, Ziffern, / und -"
        ),
        "{column}: at most {length} characters": "{column}: höchstens {length} Zeichen",
        "{column}: a day from 2000 to 2099": "{column}: ein Tag von 2000 bis 2099",
        "{column}: from {lowest} to {highest}": "{column}: von {lowest} bis {highest}",
        "{columns} together occur once per file": "{columns} kommen zusammen nur einmal in der Datei vor",
        "{column} is the same in the whole file": "{column} ist in der ganzen Datei gleich",
        "Every row has {width} fields": "Jede Zeile hat {width} Felder",
        "No blank rows between rows": "Keine leeren Zeilen zwischen Zeilen",
        'A quoted field is "…", and a double quote inside it is written twice': (
            'Ein Feld in Anführungszeichen ist "…", und ein Anführungszeichen darin wird doppelt geschrieben'
        ),
        "At most {field_characters} characters in a field": "Höchstens {field_characters} Zeichen in einem Feld",
        "At most {rows} rows": "Höchstens {rows} Zeilen",
        "At most {largest_bytes} bytes": "Höchstens {largest_bytes} Bytes",
        "At least {smallest_bytes} bytes": "Mindestens {smallest_bytes} Bytes",
        "The header is exactly: {header}": "Die Kopfzeile lautet genau: {header}",
        "The last line is {trailer}": "Die letzte Zeile ist {trailer}",
        "The text is {encoding}": "Der Text ist {encoding}",
        "Fill it in.": "Tragen Sie ihn ein.",
        "Fill in a date.": "Tragen Sie ein Datum ein.",
        "Fill in a number.": "Tragen Sie eine Zahl ein.",
        "Fill in a whole number.": "Tragen Sie eine ganze Zahl ein.",
        "Write the year first: YYYY-MM-DD.": "Schreiben Sie das Jahr zuerst: JJJJ-MM-TT.",
        "Remove the blanks around it.": "Entfernen Sie die Leerzeichen davor und danach.",
        "Give a day that the calendar has, as YYYY-MM-DD.": "Geben Sie einen Tag an, den es gibt, als JJJJ-MM-TT.",
        "Write it without separators of thousands, and with {mark} before its decimals.": (
            "Schreiben Sie sie ohne Tausendertrennzeichen und mit {mark} vor den Nachkommastellen."
        ),
        "A spreadsheet has shortened it: format the column as a plain number and export again.": (
            "Eine Tabellenkalkulation hat sie verkürzt: Formatieren Sie die Spalte als einfache Zahl und exportieren Sie noch einmal."
        ),
        "Give a date.": "Geben Sie ein Datum an.",
        "Give a number.": "Geben Sie eine Zahl an.",
        "Give a whole number.": "Geben Sie eine ganze Zahl an.",
        "A spreadsheet has shortened it: format the column as text, enter it in full and export again.": (
            "Eine Tabellenkalkulation hat ihn verkürzt: Formatieren Sie die Spalte als Text, tragen Sie ihn ganz ein und exportieren "
            "Sie noch einmal."
        ),
        "Write it as the rule says.": "Schreiben Sie ihn, wie die Regel sagt.",
        "Correct the value.": "Berichtigen Sie den Wert.",
        "Send each once; if both rows are meant, their keys must differ.": (
            "Senden Sie jede nur einmal; sind beide Zeilen gemeint, müssen sich ihre Schlüssel unterscheiden."
        ),
        "Send one file for each.": "Senden Sie je Wert eine eigene Datei.",
        "Send the complete file, with its control line.": "Senden Sie die vollständige Datei mit ihrer Kontrollzeile.",
        "Write the control line as agreed.": "Schreiben Sie die Kontrollzeile wie vereinbart.",
        "Rows are missing or were added on the way: send the complete file again.": (
            "Unterwegs gingen Zeilen verloren oder kamen hinzu: Senden Sie die vollständige Datei noch einmal."
        ),
        'Most often a separator inside a text: put that text into double quotes ("…").': (
            'Meist steht ein Trennzeichen in einem Text: Setzen Sie diesen Text in gerade Anführungszeichen ("…").'
        ),
        "Remove the blank row; if rows are missing there, send them.": (
            "Entfernen Sie die leere Zeile; fehlen dort Zeilen, senden Sie sie."
        ),
        'Write a double quote inside a text as "" and put the text in double quotes.': _QUOTES,
        "Send the agreed columns in the agreed order; columns are never renamed or moved by us.": _COLUMNS,
        "Send the file with its header as the first row.": "Senden Sie die Datei mit ihrer Kopfzeile als erster Zeile.",
        "The file was cut; send it again completely.": "Die Datei wurde abgeschnitten; senden Sie sie vollständig noch einmal.",
    },
    titles={
        "acknowledgement": "Empfangsbestätigung",
        "audit-artifact": "Prüfungsunterlage",
        "checksum-list": "Prüfsummenliste",
        "contract": "Vertrag",
        "invoice": "Rechnung",
        "price-list": "Preisliste",
        "product-image": "Produktbild",
        "shipment-manifest": "Sendungsliste",
        "sidecar": "Begleitdatei",
        "statement": "Kontoauszug",
        "transfer": "Übertragung",
        "video": "Video",
    },
)
